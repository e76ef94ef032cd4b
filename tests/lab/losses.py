"""The losses of a run: datagrams that a node has sent and another has not heard, although no fault separated them."""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.lab.separations import Separations, Spans
from tests.lab.traffic_peer import MISSING, MUTED, REFUSED, SENT, TICK_NS, unpacked

_ONE_WINDOW: Final = 25
"""The greatest distance, in ticks, of two losses in one window."""


class Mark(NamedTuple):
    """An action on the group: its time, by `time.monotonic`, and its description."""

    at: float
    what: str


@dataclass(slots=True)
class Notes:
    """The notes of one traffic peer."""

    number: int
    ticks: bytes
    times: Sequence[int]
    heard: Mapping[int, bytes]
    late: int
    repeated: int
    slowest_ms: float
    host_drops: int
    muted_because: Sequence[tuple[int, str]]
    """When it became mute, by `time.monotonic` in nanoseconds, and the reason that the session gave."""

    @classmethod
    def read(cls, path: Path) -> "Notes":
        """Read the file that a traffic peer has written."""
        report: dict[str, Any] = json.loads(path.read_text())
        times = array("Q")
        times.frombytes(unpacked(report["times"]))
        return cls(
            number=report["number"],
            ticks=unpacked(report["ticks"]),
            times=times,
            heard={int(number): unpacked(marks) for number, marks in report["heard"].items()},
            late=report["late"],
            repeated=report["repeated"],
            slowest_ms=report["slowest_ns"] / 1e6,
            host_drops=report["host_drops"],
            muted_because=[(at, reason) for at, reason in report["muted_because"]],
        )


@dataclass(slots=True)
class Losses:
    """The losses between all pairs of nodes that no fault separated. `sent` counts a datagram once for each receiver.

    `late`: datagrams that came too late to count; unless a fault had separated the two nodes, they are among the lost.
    `muted`: ticks on which a node had no key to send with. `host_drops`: datagrams that this machine's kernel had no
    room for. `stalled_ms`: the longest time for which this machine delayed a tick of a peer; without traffic it is the
    time that `Standstill` measured.
    """

    sent: int = 0
    received: int = 0
    lost: int = 0
    lost_windows: list[dict[str, Any]] = field(default_factory=list)
    muted: int = 0
    muted_windows: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    repeated: int = 0
    late: int = 0
    host_drops: int = 0
    slowest_ms: float = 0.0
    stalled_ms: float = 0.0

    def add(self, other: "Losses", run: int) -> None:
        """Add the losses of another run, which has this number."""
        self.sent += other.sent
        self.received += other.received
        self.lost += other.lost
        self.lost_windows += [{"run": run, **window} for window in other.lost_windows]
        self.muted += other.muted
        self.muted_windows += [{"run": run, **window} for window in other.muted_windows]
        self.refused += other.refused
        self.repeated += other.repeated
        self.late += other.late
        self.host_drops += other.host_drops
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.stalled_ms = max(self.stalled_ms, other.stalled_ms)


def losses(
    notes: Mapping[str, Notes],
    counted_from: float,
    separations: Separations,
    lossy: Spans = (),
    marks: Sequence[Mark] = (),
) -> Losses:
    """Compare the datagrams sent from `counted_from` on (`time.monotonic`) with those heard. `notes` by node.

    A datagram lost while the network was `lossy` is counted with the rest, but is in no window: the network dropped it
    at random. Times of windows are in milliseconds since the last of `marks` before them.
    """
    found = Losses()
    begin = int(counted_from * 1e9)
    for name, own in notes.items():
        first = next((tick for tick, at in enumerate(own.times) if at >= begin), len(own.times))
        _count_own(found, name, own, first, marks)
        for listener, other in notes.items():
            if listener != name:
                apart = [(int(since * 1e9), until * 1e9) for since, until in separations.of_data(name, listener)]
                missing = _missing(found, own, other.heard.get(own.number, b""), first, apart)
                unlucky = [tick for tick in missing if any(a <= own.times[tick] / 1e9 <= b for a, b in lossy)]
                for ticks in _close_together(sorted({*missing} - {*unlucky})):
                    window = _window(ticks, own.times, marks, "lost")
                    found.lost_windows.append({"from": name, "to": listener, **window})
    found.received = found.sent - found.lost
    found.lost_windows.sort(key=lambda window: (window["after"], window["first_at_ms"]))
    return found


def _count_own(found: Losses, name: str, own: Notes, first: int, marks: Sequence[Mark]) -> None:
    could = own.ticks.find(SENT)
    muted = [tick for tick in range(max(first, could), len(own.ticks)) if could >= 0 and own.ticks[tick] == MUTED]
    found.muted += len(muted)
    for ticks in _close_together(muted):
        why = [reason for at, reason in own.muted_because if at <= own.times[ticks[-1]]]
        window = _window(ticks, own.times, marks, "muted")
        found.muted_windows.append({"node": name, **window, "because": why[-1]})
    found.refused += own.ticks.count(REFUSED, first)
    found.repeated += own.repeated
    found.late += own.late
    found.host_drops += own.host_drops
    found.slowest_ms = round(max(found.slowest_ms, own.slowest_ms), 1)
    gaps = [(after - before - TICK_NS) / 1e6 for before, after in pairwise(own.times[max(0, first - 1) :])]
    found.stalled_ms = round(max(found.stalled_ms, *gaps, 0.0), 1)


def _missing(found: Losses, own: Notes, heard: bytes, first: int, apart: Sequence[tuple[int, float]]) -> list[int]:
    missing = []
    for tick in range(first, len(own.ticks)):
        if own.ticks[tick] != SENT or any(since <= own.times[tick] <= until for since, until in apart):
            continue
        found.sent += 1
        if tick >= len(heard) or heard[tick] == MISSING:
            missing.append(tick)
    found.lost += len(missing)
    return missing


def _close_together(ticks: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for tick in ticks:
        if groups and tick - groups[-1][-1] <= _ONE_WINDOW:
            groups[-1].append(tick)
        else:
            groups.append([tick])
    return groups


def _window(ticks: Sequence[int], times: Sequence[int], marks: Sequence[Mark], what: str) -> dict[str, Any]:
    first, last = times[ticks[0]] / 1e9, times[ticks[-1]] / 1e9
    before = [mark for mark in marks if mark.at <= first] or [Mark(first, "start")]
    since, after = before[-1]
    first_at, last_at = (round(1000 * (at - since), 1) for at in (first, last))
    return {"after": after, "first_at_ms": first_at, "last_at_ms": last_at, what: len(ticks)}
