"""Finds the program that has a UDP port, or listens on a TCP port, as far as this process may see it (proc(5))."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

type Protocol = Literal["udp", "tcp"]

_TABLES: Final = Path("/proc/self/net")
"""A table for each protocol, with a line for each socket: number, local address and port, remote ones, state, queues,
timer, retransmits, user id, timeout, inode, ... Addresses, ports and states are in hex. A TCP socket that is bound and
neither listens nor is connected has no line. /proc/self is there also where /proc has processes only."""

_LISTENS: Final = "0A"

_MAX_TABLE: Final = 1 << 20
"""Bytes of a table that are read."""

_PATIENCE: Final = 0.02
"""Seconds of processor time for the search in the descriptors of all processes."""


def describe_holder(port: int) -> str | None:
    """Return a description of a program of another user or process that has a UDP port; None: nothing was found."""
    return next(find_holders(port), None)


def find_holders(port: int, patience: float = _PATIENCE, protocol: Protocol = "udp") -> Iterator[str]:
    """Yield a description of each other program that has a UDP port, or listens on a TCP port, found within `patience`
    seconds of processor time.

    Programs of other users that this user cannot see come last, as one.
    """
    own: set[str] = set()
    with suppress(OSError):  # a system without /proc
        own.update(_sockets_of(Path("/proc/self")))
    users = {inode: user for inode, user in _holders(port, protocol) if inode not in own}
    end = time.thread_time() + patience
    for process in _processes():
        if not users or time.thread_time() > end:
            break
        with suppress(OSError):
            if found := [inode for inode in _sockets_of(process) if inode in users]:
                name = (process / "comm").read_bytes().strip().decode(errors="backslashreplace")
                for inode in found:
                    users.pop(inode, None)
                yield f"{name if name.isprintable() else ascii(name)} (pid {process.name})"
    if users:
        yield f"a program of user id {next(iter(users.values()))}"


def _holders(port: int, protocol: Protocol) -> Iterator[tuple[str, str]]:
    """Yield the inode and the user id of each socket with the port."""
    for table in (protocol, f"{protocol}6"):
        try:
            with (_TABLES / table).open("rb") as file:
                lines = file.read(_MAX_TABLE).decode("ascii", "replace").splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            has_port = len(fields) > 9 and fields[1].endswith(f":{port:04X}")
            if has_port and (protocol == "udp" or fields[3] == _LISTENS):
                yield fields[9], fields[7]


def _processes() -> Iterator[Path]:
    with suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield Path(entry.path)


def _sockets_of(process: Path) -> Iterator[str]:
    """Yield the inode of each socket of a process. Raises OSError: this user may not look, or it has ended."""
    with os.scandir(process / "fd") as entries:
        for entry in entries:
            with suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115  faster, and the search has little time
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]
