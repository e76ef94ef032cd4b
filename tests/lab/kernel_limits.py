"""Limits of the kernel that all namespaces of the machine share, raised for many nodes and put back at the end.

With n nodes the machine has n x n neighbours: entries of IPv4's and of IPv6's neighbour table. Beyond `gc_thresh3` the
kernel refuses a new one, and connections fail that would not fail between real devices. A packet to the multicast group
is n packets in the queue of one processor (`netdev_max_backlog`).

Each process that needs raised limits has a file in DIRECTORY with the values from before the first of them. The last
process puts them back. If it was killed, the next laboratory does so.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.namespaces import is_stale, own_label

DIRECTORY: Final = Path("/run/psk-lab-limits")
SYSCTL: Final = Path("/proc/sys")

FEW: Final = 10
"""The limits of every machine suffice for so many nodes."""


class LimitsTooLow(Exception):
    """The limits are too low for so many nodes, and cannot be raised here; the text has the command that does it."""


def needed(nodes: int) -> Mapping[str, int]:
    """Return the least value of each limit, by its path below /proc/sys, for so many nodes."""
    if nodes <= FEW:
        return {}
    # A node has up to two IPv6 addresses of each neighbour. Below gc_thresh1 the kernel collects no entries.
    neighbours = 2 * nodes * nodes
    tables = {
        f"net/{family}/neigh/default/gc_thresh{number}": factor * neighbours
        for family in ("ipv4", "ipv6")
        for number, factor in ((3, 4), (2, 2), (1, 1))
    }
    return {**tables, "net/core/netdev_max_backlog": nodes * nodes}


@contextmanager
def raised_limits(nodes: int, sysctl: Path = SYSCTL, directory: Path = DIRECTORY) -> Iterator[None]:
    """Raise the limits for so many nodes, and put them back at the end. Raises LimitsTooLow."""
    own = directory / f"{own_label()}-limits"
    with _alone(directory):
        _put_back_stale(sysctl, directory)
        if limits := needed(nodes):
            _raise(limits, sysctl, directory, own)
    try:
        yield
    finally:
        with _alone(directory):
            _put_back(own, sysctl, directory)


def _raise(limits: Mapping[str, int], sysctl: Path, directory: Path, own: Path) -> None:
    low = {name: least for name, least in limits.items() if _read(sysctl / name) < least}
    before = {name: _read(sysctl / name) for name in low}
    # The record is also made when another process has raised them enough: it may end before this one.
    for other in _records(directory):
        before |= json.loads(other.read_text())
    new = directory / "new"
    new.write_text(json.dumps(before))
    new.rename(own)
    try:
        for name, least in low.items():
            (sysctl / name).write_text(str(least))
    except OSError as error:
        _put_back(own, sysctl, directory)
        settings = " ".join(f"{name.replace('/', '.')}={least}" for name, least in low.items())
        raise LimitsTooLow(
            f"the limits of the kernel are too low for so many nodes, and cannot be raised here ({error.strerror}); "
            f"on the machine itself, run: sysctl -w {settings}"
        ) from None


def _put_back_stale(sysctl: Path, directory: Path) -> None:
    for record in [record for record in _records(directory) if is_stale(record.name)]:
        _put_back(record, sysctl, directory)


def _put_back(record: Path, sysctl: Path, directory: Path) -> None:
    """Delete a record; put the limits back if it was the last one."""
    if not record.exists():
        return
    before = json.loads(record.read_text())
    record.unlink()
    if not _records(directory):
        # The largest threshold is raised first and lowered last.
        for name in reversed(before):
            if _read(sysctl / name) != before[name]:
                (sysctl / name).write_text(str(before[name]))


def _records(directory: Path) -> list[Path]:
    return sorted(directory.glob("psk-lab-*"))


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let no other process change the limits or the records meanwhile."""
    directory.mkdir(exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
