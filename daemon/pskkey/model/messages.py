"""Messages between nodes, and between a node and its session managers. `wire` encodes and decodes them."""

from dataclasses import dataclass
from enum import IntEnum

from pskkey.model.keys import Key, KeyEntry
from pskkey.model.nodes import DEFAULT_TIMES, SPEAKS, Levels, Member, Times

# --- messages: types 1-15, read by C programs -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """KEY_REQ: a request for the current key."""


@dataclass(frozen=True, slots=True)
class KeyResponse:
    """The answer to KEY_REQ. `epoch` is known only if the server used the 132-byte form."""

    key: Key
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class KeyWatch:
    """KEY_WATCH: a request for the key state, now and after each change.

    `context` names the sequence numbers that the sender knows. It is a random number above 0. A sender that has lost
    its sequence numbers uses another one. Without a context (0), each connection counts as another sender.
    `level` is the highest level of the packets on `keys.sock` that the session manager understands. There is only
    level 1 now.
    """

    will_send: bool
    context: int = 0
    level: int = 1


@dataclass(frozen=True, slots=True)
class KeyState:
    """KEY_STATE: all keys and sender ids that the receiver needs.

    The receiver installs new keys, and drops keys that are not listed. It sends with the one entry that is marked
    `send`; without such an entry it does not send. The order of the entries is previous, current, next.
    `senders` are the sender ids in use in the group. `sender_id` is the receiver's own id, None without a lease.
    """

    sender_id: int | None
    senders: frozenset[int]
    entries: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class KeyAck:
    """KEY_ACK: the sender has installed the key of `epoch` for reception."""

    epoch: int


class KeyNewReason(IntEnum):
    """The reason of a request for a new key. OTHER is one that this version does not know."""

    OTHER = 0
    OPERATOR = 1
    SEQUENCE_HIGH_WATER = 2
    SENDER_RESTARTED = 3
    RECEIVER_BEGAN = 4


@dataclass(frozen=True, slots=True)
class KeyNew:
    """KEY_NEW: a request for a new key."""

    reason: KeyNewReason


# --- messages: types 16 and up, between nodes -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key of a node, without the secret. `send`: the node sends with this key."""

    epoch: int
    fingerprint: str
    send: bool


@dataclass(frozen=True, slots=True)
class Join:
    """JOIN: a request to become a member. A member sends it again when one of its fields has changed.

    `incarnation` is a random name. A restart that loses the keys of the node changes it. `held` are the keys of the
    node. By them the master recognizes a joiner from another partition. `sender`: a session manager of the node sends.
    `lease`: the sender id of the node, under which it may have sent with its present key. `times`: those of the node.
    `knows`: the fingerprint of the group that the node knows, empty if it knows none. Such a node reads GROUP_CHANGE.
    None: the node reads only GROUP.
    """

    group: str
    member: Member
    incarnation: str
    term: int
    held: tuple[HeldKey, ...]
    sender: bool
    lease: int | None
    times: Times = DEFAULT_TIMES
    knows: str | None = None

    @property
    def speaks(self) -> Levels:
        """Return the protocol levels of the joiner."""
        return self.member.speaks

    @property
    def version(self) -> str:
        """Return the version of the joiner."""
        return self.member.version

    def has_same_keys(self, other: "Join") -> bool:
        """Return whether another JOIN of the same node lists the same keys and the same lease."""
        return (self.held, self.lease) == (other.held, other.lease)

    def is_outdated_by(self, other: "Join") -> bool:
        """Return whether another JOIN of the same node must be sent, because the node has changed."""
        return (self.sender, self.member, self.times) != (other.sender, other.member, other.times)


@dataclass(frozen=True, slots=True)
class Group:
    """GROUP: all members of the group, and the succession, the order in which they take over. It is a full state.

    `times` are those of the master. A session goes by the longer `dead_after` of its two ends. `level` is the protocol
    level of the group, the highest one that all members speak. `key_age`: the whole seconds for which the key to send
    with has been that; 0 if the master does not state it. `known_outside`: the fingerprint of the newest key if a node
    that has left knows it, else empty. Both belong to the KEY_STATE that follows.
    """

    term: int
    master: str
    members: tuple[Member, ...]
    succession: tuple[str, ...]
    times: Times = DEFAULT_TIMES
    level: int = SPEAKS.highest
    key_age: int = 0
    known_outside: str = ""

    @property
    def holding_back(self) -> tuple[Member, ...]:
        """Return the members that speak no higher level than that of the group, if others do; else none."""
        held = tuple(member for member in self.members if member.speaks.highest <= self.level)
        return held if len(held) < len(self.members) else ()


@dataclass(frozen=True, slots=True)
class GroupChange:
    """GROUP_CHANGE: how the group differs from one that the receiver has.

    The group before the change is that with the number `base` on this session. If `base` is 0, it is the group that
    JOIN named (`knows`), or an empty one (`knows` is empty). `number` is that of the group after the change. Members
    with an id in `left` are not in it, and `members` are new or have changed. `master`, `times` and `level` are None if
    they are as before. `senders`, the sender ids in use, is None if they are as before and those of `members`, or if
    KEY_STATE has them. `key_age` and `known_outside` are as in GROUP. `has_keys`:
    KEY_STATE follows. If it does not, the keys are as before.
    """

    term: int
    number: int
    base: int = 0
    knows: str = ""
    master: str | None = None
    members: tuple[Member, ...] = ()
    left: tuple[str, ...] = ()
    times: Times | None = None
    level: int | None = None
    senders: frozenset[int] | None = None
    key_age: int = 0
    known_outside: str = ""
    has_keys: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """HEARTBEAT: the sender is alive."""


@dataclass(frozen=True, slots=True)
class Merge:
    """MERGE: a master asks another master which of the two stays. The answer is a MERGE with the `winner`.

    In the question `winner` is None. `term` and `epoch` (the latest one) are those of the sender. `members` is the
    number of nodes in the group of the sender, including the master itself.
    """

    master: Member
    term: int
    members: int
    epoch: int
    winner: str | None = None

    @property
    def speaks(self) -> Levels:
        """Return the protocol levels of the sender."""
        return self.master.speaks

    @property
    def version(self) -> str:
        """Return the version of the sender."""
        return self.master.version


@dataclass(frozen=True, slots=True)
class Handover:
    """HANDOVER: the receiver joins `master`. If the receiver is `master` itself, it becomes master with `term`.

    For that node `members` has all members with their leases, so that no sender id is leased twice. For other nodes
    `members` is empty.
    """

    master: Member
    term: int
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """ERROR: the reason of a refusal, as a code for programs and a sentence for people. Then the connection closes."""

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
    | GroupChange
    | Heartbeat
    | Merge
    | Handover
    | ErrorMessage
)
