"""The scenarios of the laboratory, with few runs, keep the bounds of a group; the laboratory cleans up after itself."""

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cgroups import find_hierarchy

RUN = Path(__file__).with_name("run")
NAMESPACES = Path("/run/netns")

SOAK_SEED = "286"
"""With this seed the soak has a fault of each kind but a pause; its cut and its split are long enough to be noticed.

Other seeds are for a long soak by hand: each run of this test is to be like the one before.
"""

MIXED_SEED = "278"
"""As SOAK_SEED, for a group of two builds."""

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize(
    ("scenario", "nodes", "runs", "bound_ms"),
    # Six nodes: with Debian's versions a daemon takes 0.7 s of processor time to load, and all share two processors.
    [("boot", 6, 2, 4000), ("join", 5, 3, 1500)],
)
def test_groups_come_together_in_time(scenario: str, nodes: int, runs: int, bound_ms: int) -> None:
    report = _report(scenario, "--nodes", str(nodes), "--runs", str(runs))
    assert (report["scenario"], report["nodes"], report["runs"]) == (scenario, nodes, runs)
    _hold(report, "converged_ms", bound_ms)
    assert report["sent"] == 0


@pytest.mark.parametrize(
    ("scenario", "nodes", "runs", "bound_ms"),
    [
        ("rekey", 10, 6, 500),
        ("kill", 5, 2, 500),
        ("switchover", 5, 2, 200),
        ("restart", 5, 2, 1500),
        ("cut", 5, 2, 2500),
        ("split", 5, 2, 5000),
    ],
)
def test_no_datagram_is_lost(scenario: str, nodes: int, runs: int, bound_ms: int) -> None:
    report = _report(scenario, "--nodes", str(nodes), "--runs", str(runs))
    _hold(report, "converged_ms", bound_ms)
    _nothing_lost(report)
    if scenario != "split":  # there are two masters until they find each other
        assert report["two_masters_ms"] == 0


def test_a_master_that_was_paused_follows_the_new_one() -> None:
    report = _report("pause", "--nodes", "5", "--runs", "1", "--seconds", "5")
    _hold(report, "converged_ms", 2500)
    _hold(report, "sleeper_ms", 2000)
    _nothing_lost(report)
    # From SIGCONT until the daemon notices that it was paused.
    assert report["two_masters_ms"] < 100 + report["stalled_ms"]


def test_a_lossy_network_loses_only_its_drops_and_keeps_the_master() -> None:
    report = _report("lossy", "--nodes", "5", "--runs", "1", "--seconds", "15")
    _nothing_lost(report)
    # The network drops 5 % at each of two places, and all losses are counted.
    assert 0.05 < report["lost"] / report["sent"] < 0.15
    assert report["lost"] == report["dropped_by_network"]
    assert report["two_masters_ms"] == 0


def test_random_faults_lose_no_datagram_between_connected_nodes() -> None:
    report = _report("soak", "--nodes", "5", "--runs", "1", "--seconds", "25", "--seed", SOAK_SEED)
    _hold(report, "converged_ms", 5000)
    _nothing_lost(report)


def test_a_group_is_upgraded_in_each_order_without_loss() -> None:
    """A run has the master first, in the middle or last, and fails if an election takes place that is not planned."""
    report = _report("upgrade", "--nodes", "5", "--runs", "3")
    _hold(report, "converged_ms", 1500)
    _nothing_lost(report)
    assert report["two_masters_ms"] == 0


def test_random_faults_in_a_group_of_two_builds_lose_no_datagram() -> None:
    report = _report("mixed", "--nodes", "5", "--runs", "1", "--seconds", "25", "--seed", MIXED_SEED)
    _hold(report, "converged_ms", 5000)
    _nothing_lost(report)


def test_nodes_that_boot_at_once_become_one_group_soon_after_loading() -> None:
    report = _report("power", "--nodes", "5", "--runs", "1")
    _hold(report, "beyond_loading_ms", 2500)
    assert report["loading_ms"]["max"] + report["beyond_loading_ms"]["max"] == pytest.approx(
        report["converged_ms"]["max"], abs=1
    )
    assert (report["masters_at_once"], report["two_masters_ms"]) == (1, 0)


def test_a_third_of_the_nodes_restarts_without_loss() -> None:
    report = _report("storm", "--nodes", "5", "--runs", "1")
    _hold(report, "converged_ms", 4000)
    _nothing_lost(report)
    assert report["terms"] <= 1


def test_slow_daemons_have_one_new_master_and_the_report_has_its_cost() -> None:
    """Each has a fifth of a core. Without traffic, so that the packets are those of the daemons."""
    report = _report("kill", "--nodes", "5", "--runs", "2", "--speed", "20", "--no-traffic", "--keep-group")
    assert (report["speed"], report["sent"], len(report["spans"])) == (20, 0, 2)
    _hold(report, "converged_ms", 1500)
    assert (report["terms"], report["handshakes_abandoned"], report["masters_at_once"]) == (1, 0, 1)
    for span in report["spans"]:
        assert len(span["processor_ms"]) == len(span["packets_received"]) == 4
        assert min(span["processor_ms"].values()) > 1
        assert span["master"] in span["processor_ms"]
        assert span["bytes_of_master"] > 1000
    assert not _cgroups()


def test_a_member_that_restarts_changes_no_term() -> None:
    report = _report("member", "--nodes", "4", "--runs", "1", "--no-traffic")
    assert (report["terms"], report["masterships"]) == (0, 0)
    (span,) = report["spans"]
    assert len(span["processor_ms"]) == 3  # the new process is no survivor


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [RUN, "lossy", "--nodes", "3", "--speed", "50"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        label = f"psk-lab-{process.pid}-"
        processes = _wait_for_processes(label, 6)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    _wait_until_gone(processes)
    if number is signal.SIGKILL:
        # Daemons and traffic peers died with it; the next run removes the namespaces.
        assert _namespaces(label)
        _report("boot", "--nodes", "1", "--runs", "1", "--speed", "100")
    else:
        assert process.returncode == 128 + number, errors.decode()
    assert not _namespaces(label)
    assert not [place for place in _cgroups() if place.name.startswith(label)]
    assert not list(Path(tempfile.gettempdir()).glob(f"{label}*"))


def test_mistakes_in_the_command_line_are_reported() -> None:
    for arguments in (
        ["no-such-scenario"],
        ["boot", "--nodes", "0"],
        ["boot", "--runs", "x"],
        ["kill", "--speed", "101"],
        ["lossy", "--no-traffic"],
        ["split", "--keep-group"],
    ):
        done = subprocess.run([RUN, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "tests/lab/run: error:" in done.stderr


def _hold(report: dict[str, Any], name: str, bound_ms: int) -> None:
    """Check that the times called `name` are within their bound.

    With few runs the 99th percentile is the longest time, so a single standstill of this machine would decide. The
    bound is therefore extended by the longest standstill: the traffic peers measure it, or without traffic a process
    that only ticks. Neither needs a daemon for its ticks.
    """
    times, stalled_ms = report[name], report["stalled_ms"]
    assert 0 < times["p50"] <= times["p99"] <= times["max"]
    assert times["p99"] <= bound_ms + stalled_ms, f"this machine itself stood still for {stalled_ms} ms"


def _nothing_lost(report: dict[str, Any]) -> None:
    assert report["received"] + report["lost"] == report["sent"] > 1000
    assert (report["host_drops"], report["repeated"]) == (0, 0)
    assert report["lost_beyond_network"] == 0, (report["late"], report["stalled_ms"], report["lost_windows"])
    assert report["muted"] == 0, report["muted_windows"]


def _report(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([RUN, *arguments, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # no run has failed
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _namespaces(label: str) -> list[str]:
    return [path.name for path in NAMESPACES.glob(f"{label}*")]


def _cgroups() -> list[Path]:
    """Return the control groups of all laboratories."""
    root = find_hierarchy(Path("/proc/self/mounts").read_text()).root
    return list(root.glob("psk-lab-*-quotas"))


def _wait_for_processes(label: str, count: int) -> list[int]:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        pids = [
            int(pid)
            for name in _namespaces(label)
            for pid in subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
            ).stdout.split()
        ]
        if len(pids) == count:
            return pids
        time.sleep(0.05)
    raise AssertionError(f"there are not {count} daemons and traffic peers")


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, f"some of {pids} still run"
        time.sleep(0.02)
