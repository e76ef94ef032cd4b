"""Events that others may repeat as often as they like: few entries in the log, which still count each event.

1. The first event of a peer is logged at once. Its later ones in the same interval are only counted.
2. At the end of the interval one entry for each such peer has their number in PSKKEY_COUNT, and the text and the fields
   of the last of them. So the sum of PSKKEY_COUNT is the number of events.
3. A peer that went on in this way is watched in the next interval too. So it causes one entry in each interval.
4. In an interval, MAX_PEERS peers have entries of their own. The events of all others are one entry without an address.
   After such an interval all peers begin anew.

A peer is an IPv4 address, or the /64 of an IPv6 address. Each event that the table of events marks as `per_peer` is
counted on its own. It costs 2 * MAX_PEERS + 1 entries in an interval at most, and 3 * MAX_PEERS + 1 in any time of that
length.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pskkey.adapters.complaints import network_of
from pskkey.daemon.event_kinds import DaemonEvent, Fields, NodeEvent
from pskkey.daemon.event_table import EVENTS

INTERVAL: Final = 60.0
"""Seconds."""

MAX_PEERS: Final = 16

type Log = Callable[[NodeEvent | DaemonEvent, str, Fields], None]
type Later = Callable[[float, Callable[[], None]], object]

_log = logging.getLogger("pskkey")


@dataclass(slots=True)
class _Peer:
    """A peer with an entry in this interval, and its last event that has none yet."""

    count: int = 0
    text: str = ""
    fields: Fields = field(default_factory=dict)


def call_later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function by the running event loop."""
    asyncio.get_running_loop().call_later(seconds, function)


class RepeatedEvents:
    """Counts events, and gives the entries to `log`. `later` calls a function after so many seconds."""

    def __init__(self, log: Log, later: Later = call_later) -> None:
        self._log = log
        self._later = later
        self._peers: dict[NodeEvent | DaemonEvent, dict[str, _Peer]] = {}
        self._of_others: Counter[NodeEvent | DaemonEvent] = Counter()
        self._is_counting = False

    def add(self, event: NodeEvent | DaemonEvent, text: str, fields: Fields) -> None:
        """Log or count an event. The peer is the address in `fields`."""
        if not self._is_counting:
            self._is_counting = True
            self._later(INTERVAL, self._end_interval)
        peers = self._peers.setdefault(event, {})
        source = network_of(str(fields["address"]))
        if (peer := peers.get(source)) is not None:
            peer.count, peer.text, peer.fields = peer.count + 1, text, fields
        elif len(peers) < MAX_PEERS:
            peers[source] = _Peer()
            self._log(event, text, {**fields, "count": 1})
            return
        else:
            self._of_others[event] += 1
        _log.debug("%s", text)

    def flush(self) -> None:
        """Log the events that were only counted."""
        for event, peers in self._peers.items():
            for peer in peers.values():
                if peer.count:
                    text = f"{peer.text} ({peer.count} more in {INTERVAL:g} s)"
                    self._log(event, text, {**peer.fields, "count": peer.count})
                    peer.count = 0
        others, self._of_others = self._of_others, Counter()
        for event, count in others.items():
            text = f"{EVENTS[event].meaning}: {count} more from other addresses in {INTERVAL:g} s"
            self._log(event, text, {"count": count})
            self._peers.pop(event)

    def _end_interval(self) -> None:
        for event, peers in self._peers.items():
            self._peers[event] = {source: peer for source, peer in peers.items() if peer.count}
        self.flush()
        self._is_counting = any(self._peers.values())
        if self._is_counting:
            self._later(INTERVAL, self._end_interval)
