"""The laboratory raises the kernel's limits for many nodes, and puts back exactly what it has changed.

Files of a directory stand for those of /proc/sys, because others use this machine's limits.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.kernel_limits import LimitsTooLow, needed, raised_limits
from tests.lab.namespaces import own_label

NODES = 100
FORMER = 1024


@pytest.fixture
def sysctl(tmp_path: Path) -> Path:
    """Return a directory with a file for each limit."""
    for name in needed(NODES):
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{FORMER}\n")
    return tmp_path / "sys"


def values(sysctl: Path) -> set[int]:
    """Return the values of all limits."""
    return {int((sysctl / name).read_text()) for name in needed(NODES)}


def test_limits_are_raised_for_many_nodes_and_put_back(sysctl: Path, tmp_path: Path) -> None:
    with raised_limits(NODES, sysctl, tmp_path / "records"):
        for name, least in needed(NODES).items():
            assert int((sysctl / name).read_text()) == least >= NODES * NODES
    assert values(sysctl) == {FORMER}


def test_few_nodes_change_nothing(sysctl: Path, tmp_path: Path) -> None:
    with raised_limits(5, sysctl, tmp_path / "records"):
        assert values(sysctl) == {FORMER}


def test_limits_are_put_back_after_a_failure(sysctl: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), raised_limits(NODES, sysctl, tmp_path / "records"):
        raise ZeroDivisionError
    assert values(sysctl) == {FORMER}


def test_a_higher_limit_of_the_machine_is_left_as_it_is(sysctl: Path, tmp_path: Path) -> None:
    highest = sysctl / "net/ipv4/neigh/default/gc_thresh3"
    highest.write_text("1000000")
    with raised_limits(NODES, sysctl, tmp_path / "records"):
        assert int(highest.read_text()) == 1_000_000
    assert int(highest.read_text()) == 1_000_000


def test_next_laboratory_puts_back_the_limits_of_a_killed_one(sysctl: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.lab.kernel_limits import raised_limits\n"
        f"with raised_limits({NODES}, Path(sys.argv[1]), Path(sys.argv[2])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    records = tmp_path / "records"
    subprocess.run([sys.executable, "-c", script, sysctl, records], check=False, cwd=Path(__file__).parents[2])
    assert FORMER not in values(sysctl)
    with raised_limits(1, sysctl, records):
        assert values(sysctl) == {FORMER}


def test_last_of_two_laboratories_puts_the_limits_back(sysctl: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    script = (
        "import sys; from pathlib import Path; from tests.lab.kernel_limits import raised_limits\n"
        f"with raised_limits({NODES}, Path(sys.argv[1]), Path(sys.argv[2])): print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, sysctl, records],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"\n"
    try:
        with raised_limits(NODES, sysctl, records):
            other.communicate()
            assert FORMER not in values(sysctl)
    finally:
        other.kill()
    assert values(sysctl) == {FORMER}


def test_refusal_of_the_kernel_names_the_command_and_leaves_nothing(sysctl: Path, tmp_path: Path) -> None:
    missing = sysctl / "net/core/netdev_max_backlog"
    missing.unlink()
    missing.parent.rmdir()
    with pytest.raises(LimitsTooLow) as refused, raised_limits(NODES, sysctl, tmp_path / "records"):
        pass
    assert re.search(r"run: sysctl -w .*net\.core\.netdev_max_backlog=10000", str(refused.value))
    assert not list((tmp_path / "records").glob(f"{own_label()}*"))
    present = [sysctl / name for name in needed(NODES) if (sysctl / name).exists()]
    assert {int(path.read_text()) for path in present} == {FORMER}
