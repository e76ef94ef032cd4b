"""Output that cannot be written, and wrong arguments: every program reports them in one sentence."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pskkey import __version__
from tests.quality.programs import MODULES
from tests.tools.ctl.pskkeyctl_process import MASTER, daemon

PROGRAMS = sorted(MODULES)
BUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
"""With PYTHONUNBUFFERED each write fails where it is made, without it at the end."""


async def shell(line: str, program: str, *arguments: str | Path, unbuffered: str = "") -> tuple[int | None, str]:
    """Run a line of shell in which "$@" is a program with its arguments; return its exit code and its errors."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, program, sys.executable, "-m", MODULES[program], *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


async def without_reader(program: str, *arguments: str | Path, unbuffered: str) -> tuple[int | None, str]:
    """Run a program whose output is a pipe that nobody reads any more; return as `shell` does.

    The reader of a shell's pipe may leave late, after the output is written.
    """
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULES[program], *arguments,
        stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(writer)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


@BUFFERED
@pytest.mark.parametrize("program", PROGRAMS)
async def test_output_that_cannot_be_written_is_a_failure(program: str, unbuffered: str) -> None:
    for line, message in (
        ('"$@" >/dev/full', "standard output cannot be written: No space left on device"),
        ('"$@" >&-', "standard output is closed"),
    ):
        found = await shell(line, program, "--help", unbuffered=unbuffered)
        assert found == (1, f"{program}: {message}\n")
    assert await without_reader(program, "--help", unbuffered=unbuffered) == (-signal.SIGPIPE, "")


@BUFFERED
async def test_output_of_a_verb_that_cannot_be_written_is_a_failure(tmp_path: Path, unbuffered: str) -> None:
    for verb in ("status", "monitor"):
        async with daemon(tmp_path / "c", MASTER):
            full = await shell('"$@" >/dev/full', "pskkeyctl", "--socket", tmp_path / "c", verb, unbuffered=unbuffered)
            left = await without_reader("pskkeyctl", "--socket", tmp_path / "c", verb, unbuffered=unbuffered)
        assert full == (1, "pskkeyctl: standard output cannot be written: No space left on device\n")
        assert left == (-signal.SIGPIPE, "")


async def test_monitor_ends_when_its_reader_leaves(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER):
        line = '"$@" | head -n1; exit ${PIPESTATUS[0]}'
        found = await shell(line, "pskkeyctl", "--socket", tmp_path / "c", "monitor")
    assert found == (128 + signal.SIGPIPE, "")


async def test_monitor_without_a_daemon_ends_when_its_reader_leaves(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER):
        monitor = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULES["pskkeyctl"], "--socket", tmp_path / "c", "monitor",
            stdout=(pipe := os.pipe())[1],
        )  # fmt: skip
        os.close(pipe[1])
        reader = os.fdopen(pipe[0])
        assert "master in term 3" in await asyncio.to_thread(reader.readline)
    assert "was lost" in await asyncio.to_thread(reader.readline)
    reader.close()
    assert await asyncio.wait_for(monitor.wait(), 10) == -signal.SIGPIPE


@BUFFERED
async def test_peers_end_when_their_output_cannot_be_written(unused_udp_port: int, unbuffered: str) -> None:
    arguments = ("1", "--duration", "0.1", "--port", str(unused_udp_port))
    found = await shell('"$@" >/dev/full', "mcastpeer", *arguments, unbuffered=unbuffered)
    assert found == (1, "mcastpeer: standard output cannot be written: No space left on device\n")


async def test_program_without_standard_error_keeps_its_exit_code(tmp_path: Path) -> None:
    for line in ('"$@" 2>/dev/full', '"$@" 2>&-', '"$@" <&- >&- 2>&-'):
        assert await shell(line, "pskkeyctl", "--socket", tmp_path / "none") == (3, "")


async def test_error_message_never_goes_to_the_file_of_the_output(tmp_path: Path) -> None:
    output = tmp_path / "output"
    assert await shell(f'"$@" 2>&- >{output}', "pskkeyctl", "--socket", tmp_path / "none") == (3, "")
    assert output.read_text() == ""


async def test_half_written_key_file_is_removed(tmp_path: Path) -> None:
    psk = tmp_path / "new.psk"
    code, errors = await shell('ulimit -f 0; "$@"', "pskkeyctl", "psk", "generate", "--output", psk)
    assert (code, errors) == (1, f"pskkeyctl: {psk}: cannot be written: File too large\n")
    assert not psk.exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_prints_its_version(program: str) -> None:
    command = [sys.executable, "-m", MODULES[program], "--version"]
    assert subprocess.check_output(command, text=True) == f"{program} {__version__}\n"


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("pskkeyctl", ["wait", "--epoch", "x"], "argument --epoch: 'x' is not a whole number from 1 to 65535"),
        ("pskkeyctl", ["--timeout", "0"], "argument --timeout: '0' is not a number of seconds above 0 and up to 1e+06"),
        ("pskkeyctl", ["psk", "generate", "--identity", "a:b"], "has an identity with a colon or a leading #"),
        ("pskkeyctl", ["psk", "generate", "--identity", ""], "has an identity of 0 bytes; allowed are 1 to 128"),
        ("pskkey-client", ["h", "--psk-file", "f", "--timeout", "nan"], "'nan' is not a number of seconds above 0"),
        ("pskkey-client", ["h", "--psk-file", "f", "--port", "70000"], "'70000' is not a whole number from 1 to 65535"),
        ("pskkey-server", ["--psk-file", "f", "--port", "x"], "argument --port: 'x' is not a whole number from 0 to"),
        ("mcastpeer", ["1", "--duration", "x"], "argument --duration: 'x' is not a number from 0.01 to 1e+09"),
    ],
)
async def test_message_about_a_wrong_argument_states_the_allowed_values(
    program: str, arguments: list[str], message: str
) -> None:
    code, errors = await shell('"$@"', program, *arguments)
    assert code == 2
    last = errors.splitlines()[-1]
    assert re.match(rf"{program}( \w+)*: error: ", last)
    assert message in last
