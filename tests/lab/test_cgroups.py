"""A control group holds a daemon to its share of a core, in both versions of control groups."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.cgroups import Hierarchy, NoQuotas, find_hierarchy, limit_files, quotas
from tests.lab.costs import processor_seconds


@pytest.mark.parametrize(
    ("version", "percent", "files"),
    [
        (1, 20, {"cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": "2000"}),
        (1, None, {"cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": "-1"}),
        (2, 20, {"cpu.max": "2000 10000"}),
        (2, None, {"cpu.max": "max 10000"}),
    ],
)
def test_each_version_has_its_own_files(version: int, percent: int | None, files: dict[str, str]) -> None:
    assert limit_files(version, percent) == files


@pytest.mark.parametrize("percent", [1, 3, 5, 7])
def test_small_share_has_a_longer_period_because_the_kernel_needs_a_millisecond(percent: int) -> None:
    quota, period = map(int, limit_files(2, percent)["cpu.max"].split())
    assert 1000 * 0.99 <= quota <= 1100
    assert quota / period == pytest.approx(percent / 100, rel=0.01)


def test_hierarchy_of_version_1_is_found() -> None:
    mounts = (
        "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n"
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
    )
    assert find_hierarchy(mounts) == Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), 1)


def test_hierarchy_of_version_2_is_found(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io\n")
    assert find_hierarchy(f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n") == Hierarchy(tmp_path, 2)


def test_machine_without_the_controller_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    with pytest.raises(NoQuotas, match=r"mount cgroup2, or leave out --speed"):
        find_hierarchy(f"cgroup2 {tmp_path} cgroup2 rw 0 0\ncgroup /x cgroup rw,cpuset 0 0\n")


@pytest.mark.root
def test_process_is_held_to_its_share_until_it_is_released() -> None:
    with quotas(10) as made:
        made.hold()
        *enter, place = made.enter("n1")
        process = subprocess.Popen([*enter, place, "sh", "-c", "while :; do :; done"])
        try:
            share, stops = _watch(process.pid, Path(place))
            assert 0.02 < share < 0.2
            assert stops > 0
            made.release()
            _, stops = _watch(process.pid, Path(place))
            assert stops == 0
        finally:
            process.kill()
            process.wait()
    assert not Path(place).parent.exists()


def _watch(pid: int, place: Path) -> tuple[float, int]:
    """Return the share of a core that a process uses in one second, and how often its control group stands still."""
    begin, before, stops = time.monotonic(), processor_seconds(pid), _stops(place)
    time.sleep(1)
    return (processor_seconds(pid) - before) / (time.monotonic() - begin), _stops(place) - stops


def _stops(place: Path) -> int:
    fields = dict(line.split() for line in (place / "cpu.stat").read_text().splitlines())
    return int(fields["nr_throttled"])
