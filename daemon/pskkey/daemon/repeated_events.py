"""Events that others may repeat as often as they like: few entries in the log, which still count each event.

1. The first event of a source is logged at once. Its later ones in the same interval are only counted.
2. At the end of the interval one entry for each such source has their number in PSKKEY_COUNT, and the text and the
   fields of the last of them. So the sum of PSKKEY_COUNT is the number of events.
3. A source that went on in this way is watched in the next interval too. So it causes one entry in each interval.
4. In an interval, MAX_SOURCES sources have entries of their own. The events of all others are one entry without an
   address. After such an interval all sources begin anew.

A source is an address. Of one /64 of IPv6, the first ADDRESSES_PER_NETWORK addresses are sources, and all others are
one source, because one host has all of them.

Each event that the table of events marks as `per_peer` is counted on its own, and so is each direction and code of it:
a rare event is not hidden by frequent ones of another kind. For each of them the entries in an interval are at most
2 * MAX_SOURCES + 1, and 3 * MAX_SOURCES + 1 in any time of that length.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pskkey.adapters.complaints import network_of
from pskkey.daemon.event_kinds import DaemonEvent, Fields, NodeEvent
from pskkey.daemon.event_table import EVENTS

INTERVAL: Final = 60.0
"""Seconds."""

MAX_SOURCES: Final = 16
ADDRESSES_PER_NETWORK: Final = 4

type Log = Callable[[NodeEvent | DaemonEvent, str, Fields], None]
type Later = Callable[[float, Callable[[], None]], object]

_log = logging.getLogger("pskkey")


class _Kind(NamedTuple):
    """A kind of event. The fields have few values each, which nobody outside can invent."""

    event: NodeEvent | DaemonEvent
    direction: str | int | None
    code: str | int | None


@dataclass(slots=True)
class _Source:
    """A source with an entry in this interval, and its last event that has none yet."""

    network: str
    count: int = 0
    text: str = ""
    fields: Fields = field(default_factory=dict)


@dataclass(slots=True)
class _Sources:
    """The sources of one kind of event, by address or network, and the number of the events of all others."""

    known: dict[str, _Source] = field(default_factory=dict)
    others: int = 0


def call_later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function by the running event loop."""
    asyncio.get_running_loop().call_later(seconds, function)


class RepeatedEvents:
    """Counts events, and gives the entries to `log`. `later` calls a function after so many seconds."""

    def __init__(self, log: Log, later: Later = call_later) -> None:
        self._log = log
        self._later = later
        self._kinds: dict[_Kind, _Sources] = {}
        self._is_counting = False

    def add(self, event: NodeEvent | DaemonEvent, text: str, fields: Fields) -> None:
        """Log or count an event. Its source is the address in `fields`."""
        if not self._is_counting:
            self._is_counting = True
            self._later(INTERVAL, self._end_interval)
        kind = _Kind(event, fields.get("direction"), fields.get("code"))
        sources = self._kinds.setdefault(kind, _Sources())
        name, network = _source_of(str(fields["address"]), sources)
        if (source := sources.known.get(name)) is not None:
            source.count, source.text, source.fields = source.count + 1, text, fields
        elif len(sources.known) < MAX_SOURCES:
            sources.known[name] = _Source(network)
            self._log(event, text, {**fields, "count": 1})
            return
        else:
            sources.others += 1
        _log.debug("%s", text)

    def flush(self) -> None:
        """Log the events that were only counted."""
        for kind, sources in self._kinds.items():
            for source in sources.known.values():
                if source.count:
                    text = f"{source.text} ({source.count} more in {INTERVAL:g} s)"
                    self._log(kind.event, text, {**source.fields, "count": source.count})
                    source.count = 0
            if sources.others:
                code = "" if kind.code is None else f" ({kind.code})"
                text = f"{EVENTS[kind.event].meaning}{code}: {sources.others} more from other addresses"
                fields = {"direction": kind.direction, "code": kind.code, "count": sources.others}
                self._log(kind.event, f"{text} in {INTERVAL:g} s", fields)
                sources.known, sources.others = {}, 0

    def _end_interval(self) -> None:
        for sources in self._kinds.values():
            sources.known = {name: source for name, source in sources.known.items() if source.count}
        self.flush()
        self._is_counting = any(sources.known for sources in self._kinds.values())
        if self._is_counting:
            self._later(INTERVAL, self._end_interval)


def _source_of(address: str, sources: _Sources) -> tuple[str, str]:
    """Return the name of the source that an address counts for, and its network."""
    network = network_of(address)
    of_network = [name for name, source in sources.known.items() if source.network == network]
    is_one_of_many = address not in of_network and len(of_network) >= ADDRESSES_PER_NETWORK
    return network if is_one_of_many else address, network
