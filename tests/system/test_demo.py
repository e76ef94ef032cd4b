"""The demo as a user starts it: it shows one key, ends by itself and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pskkey.tools.demo.demo_node import uninterrupted

DEMO = [sys.executable, "-m", "pskkey.tools.demo.demo"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary directory with a path short enough for Unix sockets, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def processes_in(directory: Path, part: str = "") -> list[int]:
    """Return the ids of the processes whose command line has the path of `directory`, and `part`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # the process has ended meanwhile
            if os.fsencode(directory) in command and part.encode() in command:
                found.append(int(entry.name))
    return found


def test_demo_shows_one_key_before_and_after_the_death_of_the_master(temporary: Path) -> None:
    began = time.monotonic()
    environ = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(DEMO, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 30
    assert len(re.findall(r"● master in group", done.stdout)) == 2
    assert len(re.findall(r"● client in group", done.stdout)) == 3
    assert len(set(re.findall(r"fingerprint ([0-9a-f]{16})", done.stdout))) == 1
    assert "term 1" in done.stdout
    assert "term 2" in done.stdout
    assert list(temporary.iterdir()) == []
    assert processes_in(temporary) == []


def test_interrupted_demo_ends_its_daemons(temporary: Path) -> None:
    with start_demo(temporary) as demo:
        wait_for_daemon(temporary, "gauge")
        demo.send_signal(signal.SIGTERM)
        _, errors = demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert "Interrupted" in errors
    assert processes_in(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_signal_waits_until_a_daemon_is_started_or_ended() -> None:
    done: list[int] = []
    handler = signal.getsignal(signal.SIGINT)

    def start() -> None:
        with uninterrupted():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
                done.append(number)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert done == [signal.SIGINT, signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is handler


def test_demo_reports_a_daemon_that_ended_by_itself(temporary: Path) -> None:
    with start_demo(temporary) as demo:
        os.kill(wait_for_daemon(temporary, "gauge"), signal.SIGKILL)
        _, errors = demo.communicate(timeout=20)
    assert demo.returncode == 1
    assert "The demo FAILED: the daemon of gauge ended by itself" in errors
    assert "Traceback" not in errors
    assert processes_in(temporary) == []
    assert list(temporary.iterdir()) == []


def start_demo(temporary: Path) -> subprocess.Popen[str]:
    """Start the demo with its files in `temporary`."""
    environ = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.Popen(DEMO, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_daemon(temporary: Path, name: str) -> int:
    """Wait until the daemon of a node runs; return its process id."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := processes_in(temporary, f"/{name}/"):
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no daemon of {name} was started")
