"""The cost of an event for the nodes: processor time, bytes and packets, terms, abandoned handshakes.

The processor time is that of all threads of the daemon (schedstat in proc(5), in nanoseconds). Bytes and packets are
those of the interface of the node's namespace: Ethernet frames with their headers, so those of ARP, IP, TCP and mDNS
too. The kernel hands a long run of TCP data to the interface as one packet, and it counts as one.

A group at rest is measured first, and its cost for the same length of time is subtracted.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.lab.daemon import Daemon
from tests.lab.group import Statuses
from tests.lab.namespaces import INTERFACE

ABANDONED: Final = ("handshakes_failed", "handshakes_dropped")
"""The counters of handshakes that a server began without success: its peer left, or it made room for newer ones."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one node. `processor` is in seconds."""

    pid: int
    processor: float
    bytes_sent: float
    packets_received: float

    @classmethod
    def of(cls, daemon: Daemon) -> "Reading":
        """Read the counters of a daemon that runs, and of its namespace."""
        received, sent = interface_counters(Path(f"/proc/{daemon.pid}/net/dev").read_text())
        return cls(daemon.pid, processor_seconds(daemon.pid), sent, received)

    def since(self, before: "Reading") -> "Reading":
        """Return the difference to a reading of the same process."""
        return Reading(
            self.pid,
            self.processor - before.processor,
            self.bytes_sent - before.bytes_sent,
            self.packets_received - before.packets_received,
        )

    def times(self, factor: float) -> "Reading":
        """Return the cost of so many times the time."""
        return Reading(self.pid, factor * self.processor, factor * self.bytes_sent, factor * self.packets_received)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process (proc_pid_status(5))."""
    (kibibytes,) = (
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")
    )
    return int(kibibytes) * 1024


def interface_counters(table: str) -> tuple[int, int]:
    """Return the packets received and the bytes sent by the interface of a host, from /proc/PID/net/dev."""
    for line in table.splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == INTERFACE:
            numbers = counters.split()
            return int(numbers[1]), int(numbers[8])
    raise ValueError(f"no interface {INTERFACE}: {table}")


@dataclass(slots=True)
class Span:
    """The cost of one event, from `since` until `until` (`time.monotonic`), above that of the group at rest.

    `processor_ms` and `packets_received` have the nodes that have neither ended nor begun meanwhile, `bytes_of_master`
    the bytes that the master at the end has sent: None, if it has begun meanwhile. If nothing ran before, they are the
    whole cost of each process, with its loading. They are empty for a group with traffic, which is never at rest.
    `terms`: by how much the term has risen. `masterships`: how often a node became master. `handshakes_abandoned`: see
    ABANDONED.
    """

    since: float
    until: float = 0.0
    processor_ms: dict[str, float] = field(default_factory=dict)
    packets_received: dict[str, float] = field(default_factory=dict)
    bytes_of_master: float | None = None
    master: str | None = None
    terms: int = 0
    masterships: int = 0
    masters_at_once: int = 0
    handshakes_abandoned: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "seconds": round(self.until - self.since, 3),
            "processor_ms": {name: round(value, 2) for name, value in self.processor_ms.items()},
            "packets_received": {name: round(value) for name, value in self.packets_received.items()},
            "master": self.master,
            "bytes_of_master": None if self.bytes_of_master is None else round(self.bytes_of_master),
            "terms": self.terms,
            "masterships": self.masterships,
            "masters_at_once": self.masters_at_once,
            "handshakes_abandoned": self.handshakes_abandoned,
        }


class Meter:
    """Reads the counters of a group before and after an event."""

    def __init__(self, daemons: Iterable[Daemon]) -> None:
        self._daemons = list(daemons)
        self._rest: Mapping[str, Reading] = {}
        self._before: Mapping[str, Reading] = {}
        self._after: Mapping[str, Reading] = {}
        self._statuses: Statuses = {}
        self._read_at = 0.0

    def note_rest(self, before: Mapping[str, Reading], seconds: float) -> Mapping[str, Reading]:
        """Note that nothing has happened since `before`, `seconds` ago; return the cost of one second at rest."""
        now = self.read()
        self._rest = {name: now[name].since(then).times(1 / seconds) for name, then in before.items() if name in now}
        return self._rest

    def read(self) -> dict[str, Reading]:
        """Read the counters of all daemons that run."""
        return {daemon.name: Reading.of(daemon) for daemon in self._daemons if daemon.is_running}

    def begin(self, statuses: Statuses) -> None:
        """Begin a span. `statuses` are of the time before the event; empty: nothing runs."""
        self._statuses = statuses
        self._before = self.read()
        self._read_at = time.monotonic()

    def end(self, span: Span, master: Daemon | None) -> None:
        """End the span: enter the cost. `master` is the master at the end."""
        now = self._after = self.read()
        seconds = time.monotonic() - self._read_at
        nothing = {name: Reading(reading.pid, 0.0, 0.0, 0.0) for name, reading in now.items()}
        rest = self._rest if self._before else nothing
        for name, before in (self._before or nothing).items():
            if name not in now or now[name].pid != before.pid or name not in rest:
                continue
            cost = now[name].since(before).since(rest[name].times(seconds))
            span.processor_ms[name] = 1000 * cost.processor
            span.packets_received[name] = cost.packets_received
            if master is not None and name == master.name:
                span.bytes_of_master = cost.bytes_sent
        span.master = None if master is None else master.name

    def compare(self, span: Span, after: Statuses) -> None:
        """Enter the differences between the statuses of before and after the event."""
        span.terms = highest_term(after) - highest_term(self._statuses)
        for name, status in after.items():
            # A new process counts from 0.
            is_same = name in self._before and self._before[name].pid == self._after[name].pid
            before = self._statuses.get(name) if is_same else None
            span.handshakes_abandoned += _abandoned(status) - _abandoned(before)


def highest_term(statuses: Statuses) -> int:
    """Return the highest term of these statuses; 0: there are none."""
    return max((int(status["term"]) for status in statuses.values() if status is not None), default=0)


def _abandoned(status: Mapping[str, Any] | None) -> int:
    return 0 if status is None else sum(int(status["counters"].get(name, 0)) for name in ABANDONED)
