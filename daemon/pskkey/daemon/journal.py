"""The daemon's events in the log, with fields that a program can search for.

In systemd's journal each event has structured fields and the MESSAGE_ID of its row in `event_table`, which finds it
whatever its sentence is (`journalctl MESSAGE_ID=...`). Each event has PSKKEY_GROUP, PSKKEY_NODE, PSKKEY_ROLE,
PSKKEY_TERM and, once there is a key, PSKKEY_EPOCH, with the state after the event. Its row names further fields.
"""

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Final

from pskkey.core.notices import Notice
from pskkey.daemon.event_kinds import DaemonEvent, Fields, NodeEvent
from pskkey.daemon.event_table import EVENT_OF, EVENTS, sentence
from pskkey.daemon.repeated_events import Later, RepeatedEvents, call_later
from pskkey.model import Advert, Member

_COMMON: Final = frozenset({"role", "term", "epoch"})
"""Fields that each event has. If the notice has an attribute of that name, the field has its value."""

_log = logging.getLogger("pskkey")


class Journal:
    """Logs events. `common_fields` returns the fields that each event has, with their present values.

    `later` is as in `RepeatedEvents`.
    """

    def __init__(self, common_fields: Callable[[], Fields], later: Later = call_later) -> None:
        self._common_fields = common_fields
        self._repeated = RepeatedEvents(self._log_one, later)

    def report(self, notice: Notice) -> NodeEvent:
        """Log a notice of the node, and return its event."""
        event = EVENT_OF[type(notice)]
        names = _COMMON.union(EVENTS[event].fields.split())
        own = {one.name: _as_field(getattr(notice, one.name)) for one in fields(notice) if one.name in names}
        self.log_event(event, sentence(notice), own)
        return event

    def log_event(self, event: NodeEvent | DaemonEvent, text: str, own: Fields | None = None) -> None:
        """Log a sentence about an event, with the common fields and its own ones.

        An event that others may repeat is perhaps only counted, and logged within a minute (`repeated_events`).
        """
        if EVENTS[event].per_peer:
            self._repeated.add(event, text, own or {})
        else:
            self._log_one(event, text, own or {})

    def flush(self) -> None:
        """Log the events that were only counted."""
        self._repeated.flush()

    def _log_one(self, event: NodeEvent | DaemonEvent, text: str, own: Fields) -> None:
        log_event(event, text, {**self._common_fields(), **own})


def log_event(event: NodeEvent | DaemonEvent, text: str, named: Fields) -> None:
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
