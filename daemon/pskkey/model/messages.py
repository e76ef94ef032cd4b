"""Messages between nodes, and between a node and its session managers. `wire` encodes and decodes them."""

from dataclasses import dataclass
from enum import IntEnum

from pskkey.model.keys import Key, KeyEntry
from pskkey.model.nodes import Member

# --- messages: types 1-15, read by C programs -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """KEY_REQ: give me the current key."""


@dataclass(frozen=True, slots=True)
class KeyResponse:
    """The answer to KEY_REQ. `epoch` is known only when the server used the 132-byte form."""

    key: Key
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class KeyWatch:
    """KEY_WATCH: send me the key state now and whenever it changes.

    `context` names what the sender knows of its sequence numbers: a random number above 0, the same as long as they are
    remembered, and another one when they are not. Who has none (0) is taken for another sender on each connection.
    """

    will_send: bool
    context: int = 0


@dataclass(frozen=True, slots=True)
class KeyState:
    """KEY_STATE: all that a session manager needs to know, in full.

    Install what is new, send with the one entry marked `send` (none: do not send), drop what is not listed. The entries
    stand in the order of their turns: what was sent with before, what is, what will be.
    `senders` are the sender ids in use in the group; `sender_id` is None when none is leased to the reader.
    """

    sender_id: int | None
    senders: frozenset[int]
    entries: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class KeyAck:
    """KEY_ACK: `epoch` is installed for reception."""

    epoch: int


class KeyNewReason(IntEnum):
    """Why somebody asks for a new key."""

    OPERATOR = 1
    SEQUENCE_HIGH_WATER = 2
    SENDER_RESTARTED = 3
    RECEIVER_BEGAN = 4


@dataclass(frozen=True, slots=True)
class KeyNew:
    """KEY_NEW: please roll to a fresh key."""

    reason: KeyNewReason


# --- messages: types 16 and up, between nodes -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that a node holds, told without telling it: its epoch, fingerprint, and whether it sends with it."""

    epoch: int
    fingerprint: str
    send: bool


@dataclass(frozen=True, slots=True)
class Join:
    """JOIN: let me be a member. Sent again in a session when what it says has changed.

    `incarnation` names one continuous memory of the sender: a restart that lost its keys has a new one. `held` are the
    keys that it holds, so a master knows a joiner that comes from another part of a split. `sender`: a
    session manager that sends is attached. `lease`: the sender id that was granted to the node, and may have been sent
    with under the key that it sends with.
    """

    group: str
    member: Member
    incarnation: str
    term: int
    held: tuple[HeldKey, ...]
    sender: bool
    lease: int | None
    version: str


@dataclass(frozen=True, slots=True)
class Group:
    """GROUP: who is in the group, and in which order they would take over. Full state, not a difference."""

    term: int
    master: str
    members: tuple[Member, ...]
    succession: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """HEARTBEAT: I am alive."""


@dataclass(frozen=True, slots=True)
class Merge:
    """MERGE: one master to another, "there are two of us"; answered by a Merge whose `winner` is decided.

    `term`, `members` (served, the master itself included) and `epoch` (highest known) are the sender's; `winner` is
    None in the question. In the answer `term` and `epoch` are the highest of both sides: the winner goes above them.
    """

    master: Member
    term: int
    members: int
    epoch: int
    winner: str | None = None


@dataclass(frozen=True, slots=True)
class Handover:
    """HANDOVER: leave me and join `master`. To that node itself: become the master, with `term`.

    `members` is then the whole member map with its leases, so that nothing is given out twice.
    """

    master: Member
    term: int
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """ERROR: what was refused, as a code for programs and a sentence for people; then the connection closes."""

    code: str
    message: str


type Message = (
    KeyRequest
    | KeyResponse
    | KeyWatch
    | KeyState
    | KeyAck
    | KeyNew
    | Join
    | Group
    | Heartbeat
    | Merge
    | Handover
    | ErrorMessage
)
