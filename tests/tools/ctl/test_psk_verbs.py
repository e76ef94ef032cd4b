"""`pskkeyctl psk list`, `add`, `use` and `remove`: the steps to a new key, without loss of a key or a change."""

import asyncio
import fcntl
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pskkey.config.psk import load_psk
from pskkey.tools.ctl.psk_verbs import next_step
from tests.tools.ctl.pskkeyctl_process import Result, run

OLD, NEW = (f"{identity}:{secrets.token_hex(32)}" for identity in ("old", "new"))
NEXT_STEP = "now reload the daemon that uses it, for example with `systemctl reload pskkeyd`\n"


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def accepted(path: Path) -> list[str]:
    return list(load_psk(path).accepted)


async def piped(text: str | bytes, *arguments: str | Path, **extra: str) -> Result:
    """Run pskkeyctl with this on its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pskkey.tools.ctl.pskkeyctl", *arguments,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **extra},
    )  # fmt: skip
    given = text.encode() if isinstance(text, str) else text
    output, errors = await asyncio.wait_for(process.communicate(given), 20)
    return Result(process.returncode, output.decode(), errors.decode())


async def test_verbs_move_a_file_to_a_new_key(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"# the plant\n\n{OLD}\n# end", 0o640)
    before = psk.stat()
    added = await piped(f"{NEW}\n", "psk", "add", "-", "--file", psk)
    assert added == Result(0, "", f"{psk}: accepts new too, and uses old; {NEXT_STEP}")
    assert accepted(psk) == ["old", "new"]
    used = await run("psk", "use", "new", "--file", psk)
    assert used == Result(0, "", f"{psk}: uses new; {NEXT_STEP}")
    assert accepted(psk) == ["new", "old"]
    removed = await run("psk", "remove", "old", "--file", psk)
    assert removed == Result(0, "", f"{psk}: no longer accepts old; {NEXT_STEP}")
    assert psk.read_text() == f"# the plant\n\n{NEW}\n# end\n"
    after = psk.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert files(tmp_path) == ["group.psk"]


@pytest.mark.parametrize(
    ("file", "config", "command"),
    [
        (None, None, "now `systemctl reload pskkeyd`"),
        (None, Path("/etc/pskkey.toml"), "now `systemctl reload pskkeyd`"),
        (None, Path("/etc/pskkey/plant.toml"), "now `systemctl reload pskkeyd@plant`"),
        (None, Path("/srv/plant.toml"), NEXT_STEP.strip()),
        (Path("/etc/pskkey.psk"), None, NEXT_STEP.strip()),
    ],
)
def test_next_step_names_the_service_of_the_file(file: Path | None, config: Path | None, command: str) -> None:
    assert next_step(file, config) == command


async def test_list_shows_identities_and_no_key(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    listed = await run("psk", "list", "--file", psk)
    assert listed == Result(0, "old  in use\nnew  accepted\n", "")
    as_json = await run("psk", "list", "--file", psk, "--json")
    assert json.loads(as_json.output) == {
        "schema": 1, "file": str(psk), "in_use": "old", "accepted": ["old", "new"],
    }  # fmt: skip


async def test_default_file_is_that_of_the_configuration(tmp_path: Path) -> None:
    written(tmp_path / "my.psk", f"{OLD}\n")
    config = written(tmp_path / "pskkey.toml", '[psk]\nfile = "my.psk"\n')
    assert (await run("psk", "list", "--config", config)).output == "old  in use\n"
    missing = await run("psk", "list", "--config", tmp_path / "none.toml")
    assert (missing.code, missing.output) == (1, "")


@pytest.mark.parametrize(
    ("verb", "argument", "message"),
    [
        ("add", "same", "line 3: repeats the identity of a line above"),
        ("add", "wrong", "line 3: is not of the form 'identity:hexkey'"),
        ("add", "empty", "holds no line to add"),
        ("add", "comment", "holds no line to add"),
        ("add", "binary", "is not UTF-8 text"),
        ("add", "endless", "cannot be read: not a regular file"),
        ("add", "large", "is larger than the 65536 bytes that a PSK file may have"),
        ("add", "none", "cannot be read: No such file or directory"),
        ("use", "third", "has no identity third; it has old, new"),
        ("remove", "third", "has no identity third; it has old, new"),
        ("remove", "old", "old is in use; first use another one: `pskkeyctl psk use`"),
    ],
)
async def test_refused_change_leaves_the_files_unchanged(
    tmp_path: Path, verb: str, argument: str, message: str
) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    key = secrets.token_hex(32)
    for name, text in (
        ("same", f"new:{key}\n"),
        ("wrong", f"{key}\n"),
        ("empty", "\n"),
        ("comment", "# none\n"),
        ("large", "#" * 65537),
    ):
        written(tmp_path / name, text)
    (tmp_path / "binary").write_bytes(b"x\xff:" + key.encode())
    (tmp_path / "endless").symlink_to("/dev/zero")
    before = files(tmp_path)
    named = tmp_path / argument if verb == "add" else argument
    result = await run("psk", verb, named, "--file", psk)
    assert (result.code, result.output) == (1, "")
    assert result.errors.startswith("pskkeyctl: ")
    assert message in result.errors
    assert len(result.errors.splitlines()) == 1
    assert psk.read_text() == f"{OLD}\n{NEW}\n"
    assert files(tmp_path) == before
    for secret in (key, OLD.partition(":")[2], NEW.partition(":")[2]):
        assert secret not in result.errors


async def test_a_key_given_as_an_identity_is_not_repeated(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    result = await run("psk", "use", NEW, "--file", psk)
    assert result.code == 1
    assert NEW.partition(":")[2] not in result.errors


def waiting(path: Path) -> int:
    """Return how many processes want the lock of a file."""
    waits = [line for line in Path("/proc/locks").read_text().splitlines() if " -> FLOCK" in line]
    return sum(f":{path.stat().st_ino} " in line for line in waits)


async def test_simultaneous_changes_are_all_made(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n")
    names = {f"new{number}" for number in range(4)}
    with psk.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        adds = [
            asyncio.create_task(piped(f"{name}:{secrets.token_hex(32)}", "psk", "add", "-", "--file", psk))
            for name in names
        ]
        deadline = time.monotonic() + 20
        while waiting(psk) < len(adds):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    assert [result.code for result in await asyncio.gather(*adds)] == [0] * len(adds)
    assert set(accepted(psk)) == {"old", *names}


async def test_rubbish_on_standard_input_changes_nothing(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n")
    rubbish = await piped(b"x\xff:" + secrets.token_hex(32).encode(), "psk", "add", "-", "--file", psk, LC_ALL="C")
    assert rubbish == Result(1, "", "pskkeyctl: -: is not UTF-8 text\n")
    command = ["sh", "-c", 'exec "$@" <&-', "", sys.executable, "-m", "pskkey.tools.ctl.pskkeyctl", "psk", "add", "-"]
    closed = await asyncio.create_subprocess_exec(*command, "--file", psk, stderr=subprocess.PIPE)
    _, errors = await closed.communicate()
    assert (closed.returncode, errors) == (1, b"pskkeyctl: standard input is closed; give it the line to add\n")
    assert psk.read_text() == f"{OLD}\n"


async def test_no_part_of_a_comment_becomes_a_line(tmp_path: Path) -> None:
    psk = tmp_path / "group.psk"
    content = f"{OLD}\n# retired\rghost:{secrets.token_hex(32)}\n{NEW}\n".encode()
    written(psk, "").write_bytes(content)
    assert (await run("psk", "use", "new", "--file", psk)).code == 0
    assert accepted(psk) == ["new", "old"]
    assert sorted(psk.read_bytes().split(b"\n")) == sorted(content.split(b"\n"))
    added = await piped(
        f"# x\rghost:{secrets.token_hex(32)}\nthird:{secrets.token_hex(32)}", "psk", "add", "-", "--file", psk
    )
    assert added.code == 0
    assert accepted(psk) == ["new", "old", "third"]


ENDED_WHILE_IT_WRITES = """
import os, signal, sys
sync = os.fsync
def end_and_sync(descriptor):
    os.kill(os.getpid(), int(sys.argv.pop(1)))
    sync(descriptor)
os.fsync = end_and_sync
from pskkey.tools.ctl.pskkeyctl import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
async def test_verb_that_a_signal_ends_leaves_no_second_file_with_keys(tmp_path: Path, number: signal.Signals) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    arguments = [str(int(number)), "psk", "use", "new", "--file", str(psk)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ENDED_WHILE_IT_WRITES, *arguments)
    assert await asyncio.wait_for(process.wait(), 20) == -number
    assert files(tmp_path) == ["group.psk"]
    assert accepted(psk) == ["new", "old"]


async def test_next_change_removes_the_copy_that_a_killed_one_left(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    arguments = [str(int(signal.SIGKILL)), "psk", "use", "new", "--file", str(psk)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ENDED_WHILE_IT_WRITES, *arguments)
    assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
    (copy,) = set(files(tmp_path)) - {"group.psk"}
    assert accepted(tmp_path / copy) == ["new", "old"]
    assert re.fullmatch(r"\.group\.psk\.pskkey-[0-9a-f]{16}", copy)
    (tmp_path / "link").symlink_to("group.psk")
    assert await run("psk", "use", "new", "--file", tmp_path / "link") == Result(
        0, "", f"{tmp_path}/link: uses new; {NEXT_STEP}"
    )
    assert files(tmp_path) == ["group.psk", "link"]


async def test_change_removes_no_file_but_copies_of_its_own_file(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    digits = "0123456789abcdef"
    for name in (
        f".other.psk.pskkey-{digits}",
        f".groupXpsk.pskkey-{digits}",
        f".a.group.psk.pskkey-{digits}",
        f".group.psk.pskkey-{digits}0",
        f".group.psk.pskkey-{digits[1:]}",
        f".group.psk.pskkey-{digits.upper()}",
        f".group.psk.pskkey-{digits}\n",
        f"group.psk.pskkey-{digits}",
        "aim",
    ):
        written(tmp_path / name, "ours")
    (tmp_path / f".group.psk.pskkey-{'1' * 16}").symlink_to("aim")
    (tmp_path / f".group.psk.pskkey-{'2' * 16}").mkdir()
    os.mkfifo(tmp_path / f".group.psk.pskkey-{'3' * 16}")
    before = files(tmp_path)
    written(tmp_path / f".group.psk.pskkey-{'4' * 16}", OLD)
    result = await run("psk", "use", "new", "--file", psk)
    assert (result.code, files(tmp_path)) == (0, before)


async def test_file_with_the_longest_name_can_be_changed(tmp_path: Path) -> None:
    """No name of a new file beside it would be short enough."""
    psk = written(tmp_path / ("p" * 255), f"{OLD}\n{NEW}\n")
    assert (await run("psk", "use", "new", "--file", psk)).code == 0
    assert accepted(psk) == ["new", "old"]


ENDED_WHEN_IT_HAS_MADE_THE_FILE = """
import os, sys
open_file, number = os.open, int(sys.argv[1])
def open_and_end(path, flags, *more, **named):
    descriptor = open_file(path, flags, *more, **named)
    if flags & os.O_EXCL:
        os.kill(os.getpid(), number)
    return descriptor
os.open = open_and_end
from pskkey.tools.ctl.pskkeyctl import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
async def test_generate_that_a_signal_ends_leaves_no_file_without_a_key(tmp_path: Path, number: signal.Signals) -> None:
    psk = tmp_path / "group.psk"
    arguments = [str(int(number)), "psk", "generate", "--identity", "plant", "--output", str(psk)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENDED_WHEN_IT_HAS_MADE_THE_FILE, *arguments, stderr=subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in errors
    assert accepted(psk) == ["plant"]
