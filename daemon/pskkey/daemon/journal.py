"""How the daemon's reports get into the log, with what a program can search for.

Under systemd's journal each event has the MESSAGE_ID of its row in `event_table`, by which it can be found whatever its
sentence says (`journalctl MESSAGE_ID=...`), and structured fields. Each has PSKKEY_GROUP, PSKKEY_NODE, PSKKEY_ROLE,
PSKKEY_TERM and, once there is a key, PSKKEY_EPOCH, as they are after the event; further ones stand in its row.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Final

from pskkey.core.notices import Notice
from pskkey.daemon.event_table import EVENT_OF, EVENTS, DaemonEvent, NodeEvent, sentence
from pskkey.model import Advert, Member

type Fields = Mapping[str, str | int | None]
"""Names without PSKKEY_ in front, in small letters. None: no such field."""

_SUBJECTS: Final = frozenset({"role", "term", "epoch"})
"""What each event has as a field anyhow: when a notice says it, its own word counts."""

_log = logging.getLogger("pskkey")


class Journal:
    """Logs events. `always` returns the fields that each of them has, as they are at that moment."""

    def __init__(self, always: Callable[[], Fields]) -> None:
        self._always = always

    def report(self, notice: Notice) -> NodeEvent:
        """Log what the node reports, and return the event that it is."""
        event = EVENT_OF[type(notice)]
        own = _SUBJECTS.union(EVENTS[event].fields.split())
        said = {one.name: _as_field(getattr(notice, one.name)) for one in fields(notice) if one.name in own}
        self.tell(event, sentence(notice), said)
        return event

    def tell(self, event: NodeEvent | DaemonEvent, text: str, own: Fields | None = None) -> None:
        """Log a sentence about an event, with the fields that are its own."""
        tell(event, text, {**self._always(), **(own or {})})


def tell(event: NodeEvent | DaemonEvent, text: str, named: Fields) -> None:
    """Log a sentence about an event, with these fields and no others."""
    entry = EVENTS[event]
    written = {f"PSKKEY_{name.upper()}": str(value) for name, value in named.items() if value is not None}
    extra: dict[str, object] = {"journal": {"MESSAGE_ID": entry.message_id, **written}, "cause": entry.cause}
    if entry.repeats:
        extra["once"] = text
    _log.log(entry.level, "%s", text, extra=extra)


def _as_field(value: str | int | Member | Advert) -> str | int:
    """Return the id of a node, and anything else as it is."""
    return value.id if isinstance(value, Member | Advert) else value
