"""The kinds of events that the daemon reports, and the facts that `event_table` has about each.

The MESSAGE_ID of an event never changes and never stands for another event. Fields stand without PSKKEY_, in small
letters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pskkey.core.notices import Notice
from pskkey.daemon.log_budget import Cause

type Fields = Mapping[str, str | int | None]
"""Values by the names of fields. A field with None is left out."""


class NodeEvent(StrEnum):
    """An event of the node. The values are the names of the counters in `status`."""

    ROLE_CHANGED = "role_changes"
    ELECTED = "elections"
    MASTER_JOINED = "masters_joined"
    MASTER_LOST = "masters_lost"
    JOIN_FAILED = "joins_failed"
    MEMBER_JOINED = "members_joined"
    MEMBER_LOST = "members_lost"
    MEMBER_REFUSED = "members_refused"
    KEY_WANTED = "keys_wanted"
    KEY_DISTRIBUTED = "rekeys"
    KEY_CHANGED = "key_changes"
    KEY_REQUEST_ANSWERED = "key_requests_answered"
    KEY_REQUEST_REFUSED = "key_requests_refused"
    TWO_MASTERS = "two_masters"
    MERGED = "merges"
    HANDED_OVER = "handovers"
    SESSION_RENEWED = "sessions_renewed"
    FENCED = "fenced"
    SLEPT = "sleeps"
    DUPLICATE_ID = "duplicate_ids"
    SECOND_SENDER = "second_senders"
    SENDER_ID_TAKEN = "sender_ids_taken"
    NO_SENDER_ID = "sender_ids_exhausted"
    PROTOCOL_ERROR = "protocol_errors"


class DaemonEvent(StrEnum):
    """An event of the daemon as a whole."""

    STARTED = "started"
    STOPPED = "stopped"
    START_FAILED = "start_failed"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    RESTART_NEEDED = "restart_needed"
    CONDITION_BEGAN = "condition_began"
    CONDITION_ENDED = "condition_ended"
    COMMANDED = "commanded"
    COMMAND_DENIED = "command_denied"
    AUTHENTICATION_FAILED = "authentication_failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: one event."""

    message_id: str
    """128 bits in hex."""
    level: int
    cause: Cause
    """The party that causes it: OTHERS or COUNTED if a peer or a local process can cause it as often as it likes."""
    meaning: str
    """The sentence in the manual."""
    fields: str = ""
    """Its journal fields, besides those that each event has."""
    counted: str = ""
    """The things that its counter counts."""
    repeats: bool = False
    """Whether it is a failure that repeats itself. Then the log has one text once in a while (`log_budget`, rule 4)."""
    per_peer: bool = False
    """Whether it is counted for each address, and few entries have the numbers (`repeated_events`)."""
    sentences: Mapping[type[Notice], str] = field(default_factory=dict)
    """For each notice the log line, as a format of the notice's attributes."""
