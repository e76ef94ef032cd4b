"""The times at which each node was master, from the daemons' own logs, and how long there were two masters."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations, pairwise
from typing import Final

from tests.lab.separations import Separations, Spans

_CHANGE: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) .*?\b(\w+) -> (\w+), term \d+", re.MULTILINE)


def as_master(log: str, deaths: Sequence[float], pauses: Spans, clock_offset: float) -> list[tuple[float, float]]:
    """Return when a daemon was master according to its log, without the times when it was paused.

    `clock_offset`, seconds, is added to the log's local time to have that of `time.monotonic`.
    """
    spans: list[tuple[float, float]] = []
    since: float | None = None
    changes = [
        (datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() + clock_offset, now)
        for stamp, _, now in _CHANGE.findall(log)
    ]
    for at, role in [*sorted([*changes, *((at, "dead") for at in deaths)]), (math.inf, "")]:
        if since is not None:
            spans.append((since, at))
        since = at if role == "master" else None
    for begin, end in pauses:
        spans = [part for span in spans for part in _without(span, begin, end)]
    return spans


def two_masters_ms(masters: Mapping[str, Spans], separations: Separations, since: float, until: float) -> float:
    """Return how long, from `since` until `until`, there were two masters and the network connected them."""
    both: list[tuple[float, float]] = []
    for (one, ones), (other, others) in combinations(masters.items(), 2):
        overlaps = [
            (max(a, c, since), min(b, d, until))
            for a, b in ones
            for c, d in others
            if max(a, c, since) < min(b, d, until)
        ]
        for begin, end in separations.of_network(one, other):
            overlaps = [part for span in overlaps for part in _without(span, begin, end)]
        both += overlaps
    edges = sorted({edge for span in both for edge in span})
    inside = [(a, b) for a, b in pairwise(edges) if any(begin <= a and b <= end for begin, end in both)]
    return round(1000 * sum(b - a for a, b in inside), 1)


def most_masters(masters: Iterable[Spans], since: float, until: float) -> int:
    """Return how many nodes were master at one moment, at most, from `since` until `until`."""
    clipped = [(max(a, since), min(b, until)) for spans in masters for a, b in spans if max(a, since) < min(b, until)]
    return max((sum(a <= begin < b for a, b in clipped) for begin, _ in clipped), default=0)


def _without(span: tuple[float, float], begin: float, end: float) -> list[tuple[float, float]]:
    """Cut a time out of a span."""
    parts = [(span[0], min(span[1], begin)), (max(span[0], end), span[1])]
    return [(since, until) for since, until in parts if since < until]
