"""The laboratory's scenarios, with few runs, within the bounds that a group must keep; and its own cleaning up."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run")
NAMESPACES = Path("/run/netns")

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        reason = "network namespaces need root: run the tests with sudo"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("scenario", "nodes", "runs", "bound_ms"),
    [("boot", 10, 2, 4000), ("join", 5, 3, 1500), ("kill", 5, 3, 1000)],
)
def test_groups_come_together_in_time(scenario: str, nodes: int, runs: int, bound_ms: int) -> None:
    report = _report(scenario, "--nodes", str(nodes), "--runs", str(runs))
    assert report["failures"] == 0
    assert (report["scenario"], report["nodes"], report["runs"]) == (scenario, nodes, runs)
    times = report["converged_ms"]
    assert 0 < times["p50"] <= times["p99"] <= times["max"]
    assert times["p99"] <= bound_ms


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(number: signal.Signals) -> None:
    process = subprocess.Popen([RUN, "boot", "--nodes", "3"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        label = f"psk-lab-{process.pid}-"
        daemons = _wait_for_daemons(label)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    _wait_until_gone(daemons)
    if number is signal.SIGKILL:
        # The daemons died with it; the namespaces wait for the next run.
        assert _namespaces(label)
        _report("boot", "--nodes", "1", "--runs", "1")
    else:
        assert process.returncode == 128 + number, errors.decode()
    assert not _namespaces(label)
    assert not list(Path(tempfile.gettempdir()).glob(f"{label}*"))


def test_mistakes_in_the_command_line_are_told() -> None:
    for arguments in (["no-such-scenario"], ["boot", "--nodes", "0"], ["boot", "--runs", "x"]):
        done = subprocess.run([RUN, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "tests/lab/run: error:" in done.stderr


def _report(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([RUN, *arguments, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _namespaces(label: str) -> list[str]:
    return [path.name for path in NAMESPACES.glob(f"{label}*")]


def _wait_for_daemons(label: str) -> list[int]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pids = [
            int(pid)
            for name in _namespaces(label)
            for pid in subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
            ).stdout.split()
        ]
        if len(pids) == 3:
            return pids
        time.sleep(0.05)
    raise AssertionError("no daemons were started")


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, f"some of {pids} still run"
        time.sleep(0.02)
