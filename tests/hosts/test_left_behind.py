"""Hosts leave nothing behind, for each way to end them."""

import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

UP = Path(__file__).with_name("up")

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_hosts_leave_nothing(number: signal.Signals) -> None:
    # The parent of this test may ignore SIGINT, as a shell's background command does; a terminal's does not.
    command = ["env", "--default-signal=INT", str(UP), "--bare", "--hosts", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("host1: nsenter "), first
            label = f"psk-lab-{process.pid}-"
            assert len(_processes(label)) > 5
            process.send_signal(number)
            process.wait(30)
        finally:
            process.kill()
    # The kernel needs some time to end the processes.
    deadline = time.monotonic() + 10
    while _processes(label) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _processes(label)
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines() if label in line]
    assert all(kind == "nsfs" for _, _, kind, *_ in mounts)  # network namespaces; they are checked below
    if number is signal.SIGKILL:
        # The next start removes the rest.
        assert _names(label)
        with subprocess.Popen([UP, "--bare", "--hosts", "1"], stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            following.stdout.readline()
            following.terminate()
    assert not _names(label)


def _names(label: str) -> list[Path]:
    """Return the network namespaces, control groups and directories whose names begin with `label`."""
    places = (Path("/run/netns"), Path(tempfile.gettempdir()), Path("/sys/fs/cgroup"))
    return [
        path
        for place in places
        for path in (*place.glob(f"{label}*"), *place.glob(f"*/{label}*"))
        if path.parent.is_relative_to(place)
    ]


def _processes(label: str) -> list[str]:
    """Return the pids in control groups with `label` in their names."""
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cgroup") if label in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
