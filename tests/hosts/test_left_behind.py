"""Hosts that are gone leave nothing, however they went."""

import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

UP = Path(__file__).with_name("up")

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(number: signal.Signals) -> None:
    # Whatever started us may ignore SIGINT, as a shell lets its background commands do; at a terminal nobody does.
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
    # What the kernel ends it ends in its own time.
    deadline = time.monotonic() + 10
    while _processes(label) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _processes(label)
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines() if label in line]
    assert all(kind == "nsfs" for _, _, kind, *_ in mounts)  # network namespaces, of which more below
    if number is signal.SIGKILL:
        # The rest waits for the next one.
        assert _names(label)
        with subprocess.Popen([UP, "--bare", "--hosts", "1"], stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            following.stdout.readline()
            following.terminate()
    assert not _names(label)


def _names(label: str) -> list[Path]:
    """Return the network namespaces, control groups and directories that are called after a process."""
    places = (Path("/run/netns"), Path(tempfile.gettempdir()), Path("/sys/fs/cgroup"))
    return [
        path
        for place in places
        for path in (*place.glob(f"{label}*"), *place.glob(f"*/{label}*"))
        if path.parent.is_relative_to(place)
    ]


def _processes(label: str) -> list[str]:
    """Return the pids that are in a control group called after a process."""
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cgroup") if label in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
