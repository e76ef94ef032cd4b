"""Everything that a node can ask to be done.

`Node.handle` returns these in order, and the driver performs them in that order. Each docstring says what holds
before the action is handed out, so that a crash between two of them can be reasoned about.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from pskkey.core.events import Session
from pskkey.model import Advert, ErrorMessage, Message


@dataclass(frozen=True, slots=True)
class Connect:
    """Open an outbound session to the first of `addresses` that answers, within `timeout` seconds.

    Answered by `events.Connected` or `events.Disconnected`, exactly one of them.
    """

    session: Session
    peer: str
    addresses: tuple[str, ...]
    port: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` on a session that is open. Every key in a KEY_STATE is held by the node already."""

    session: Session
    message: Message


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close a session, after sending `error` if there is one. No `events.Disconnected` follows."""

    session: Session
    error: ErrorMessage | None = None


@dataclass(frozen=True, slots=True)
class Advertise:
    """Announce this advert over mDNS, and answer questions with it from now on.

    It is complete. Its role is held already: a master can be joined when this goes out.
    """

    advert: Advert


@dataclass(frozen=True, slots=True)
class GenerateKey:
    """Make a fresh random key; answered by `events.KeyGenerated`."""


class NoticeKind(StrEnum):
    """What an operator may want to be told of. The values are the names of the counters in `status`."""

    ROLE_CHANGED = "role_changes"
    ELECTED = "elections"
    MASTER_JOINED = "masters_joined"
    MASTER_LOST = "masters_lost"
    JOIN_FAILED = "joins_failed"
    MEMBER_JOINED = "members_joined"
    MEMBER_LOST = "members_lost"
    MEMBER_REFUSED = "members_refused"
    KEY_WANTED = "keys_wanted"
    KEY_ROLLED = "rekeys"
    KEY_CHANGED = "key_changes"
    TWO_MASTERS = "two_masters"
    MERGED = "merges"
    HANDED_OVER = "handovers"
    FENCED = "fenced"
    SLEPT = "sleeps"
    DUPLICATE_ID = "duplicate_ids"
    SECOND_SENDER = "second_senders"
    SENDER_ID_TAKEN = "sender_ids_taken"
    NO_SENDER_ID = "sender_ids_exhausted"
    PROTOCOL_ERROR = "protocol_errors"


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell the operator. `text` is a whole sentence; `fields` are for programs. Neither holds a secret."""

    kind: NoticeKind
    text: str
    fields: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing is left to do: the daemon may end."""


type Action = Connect | Send | Disconnect | Advertise | GenerateKey | Notice | Stopped
