"""The values that every part of pskkey speaks in: keys, members, adverts and messages.

All are frozen. Messages are what a peer or a session manager says to us or we to it, free of their encoding;
`wire` turns them into bytes and back.
"""

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from pskkey.secret import Secret

PMS_FIELD_SIZE = 64
RANDOM_SIZE = 32
MAX_EPOCH = 65535
MAX_KEY_ENTRIES = 3
SENDER_IDS = 256
MAX_ANSWERS = 12
"""Challenges that one advert answers: as many as fit into one pair of its TXT record."""


class Suite(IntEnum):
    """Cipher suites of the multicast DTLS group, by their two-byte TLS number."""

    WDM_WITH_NULL_SHA256 = 0x00FE
    PSK_CHACHA20_POLY1305 = 0xCCAB


class Role(StrEnum):
    """What a node is in its group at this moment."""

    LISTENING = "listening"
    JOINING = "joining"
    CLIENT = "client"
    MASTER = "master"


@dataclass(frozen=True, slots=True)
class Key:
    """A group key: `pms` (64 bytes: the pre-master secret, padded with zeros), two 32-byte randoms, the suite."""

    pms: Secret
    server_random: bytes = field(repr=False)
    client_random: bytes = field(repr=False)
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    fingerprint: str = field(init=False, repr=False, compare=False)
    """First 8 bytes, in hex, of SHA-256 over the 128 bytes `pms server_random client_random`, as the key was made."""

    def __post_init__(self) -> None:
        if len(self.pms) != PMS_FIELD_SIZE:
            raise ValueError(f"a PMS field is {PMS_FIELD_SIZE} bytes, not {len(self.pms)}")
        if len(self.server_random) != RANDOM_SIZE or len(self.client_random) != RANDOM_SIZE:
            raise ValueError(f"the randoms are {RANDOM_SIZE} bytes each")
        digest = hashlib.sha256(self.pms.reveal() + self.server_random + self.client_random)
        object.__setattr__(self, "fingerprint", digest.hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class PskName:
    """Names a pre-shared key without holding it. A key that changes under its identity has another name."""

    identity: str
    fingerprint: str = field(default="", repr=False)
    """Of the key, in hex. It is compared within one process, and never shown."""


UNNAMED_PSK: Final = PskName("")
"""Of a session that is not open yet."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of a key state: its DTLS epoch (1..65535), and whether to send and to receive with it.

    `unused`: nobody has sent with it yet. It is only being distributed.
    """

    epoch: int
    key: Key
    send: bool
    receive: bool = True
    unused: bool = False


class Turn(StrEnum):
    """Whose turn it is: a key's place among those that are held."""

    PREVIOUS = "previous"
    CURRENT = "current"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Member:
    """A node as its group knows it. `sender_id` is None while none is leased to it."""

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    priority: int = 100
    eligible: bool = True
    sender_id: int | None = None
    acked_epoch: int | None = None


class Process(NamedTuple):
    """A local process by its peer credentials, as they are shown to people: nothing is decided by them."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Advert:
    """What a node says of itself over mDNS. A hint: only a TLS session proves anything."""

    group: str
    id: str
    name: str
    priority: int
    eligible: bool
    role: Role
    term: int
    members: int
    addresses: tuple[str, ...]
    port: int
    is_full: bool = False
    """Whether this master has no place for another member."""
    challenge: str = ""
    """A text that this node has never used before; a master repeats it in `answers`. Empty: it asks for no proof."""
    answers: tuple[str, ...] = ()
    """The challenges of others that this master has heard in the last seconds, MAX_ANSWERS at most."""


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

    `memory` names what the sender knows of its sequence numbers: a random number above 0, the same as long as they are
    remembered, and another one when they are not. Who has none (0) is taken for another sender on each connection.
    """

    will_send: bool
    memory: int = 0


@dataclass(frozen=True, slots=True)
class KeyState:
    """KEY_STATE: all that a consumer needs to know, in full.

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

    `instance` names one continuous memory of the sender: a restart that lost its keys has a new one. `held` are the
    keys that it holds, so a master knows a joiner that comes from another part of a split. `sender`: a
    session manager that sends is attached. `lease`: the sender id that was granted to the node, and may have been sent
    with under the key that it sends with.
    """

    group: str
    member: Member
    instance: str
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


# --- what outlives a process ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SavedKey:
    """A held key, and `since` when it has its turn, in seconds since boot."""

    epoch: int
    key: Key
    turn: Turn
    since: float


@dataclass(frozen=True, slots=True)
class SavedLease:
    """The sender id that is granted to a node, None if there is none, and those in use in its group."""

    sender_id: int | None = None
    senders: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SavedRing:
    """A key ring. `unlisted` are keys that the node has from elsewhere than from its master, the one to send with among
    them if it sends with its former key; `former_lease` is the lease that goes with that one.
    """

    keys: tuple[SavedKey, ...] = ()
    lease: SavedLease = SavedLease()
    unlisted: tuple[SavedKey, ...] = ()
    former_lease: SavedLease | None = None


@dataclass(frozen=True, slots=True)
class SavedConsumer:
    """A session manager that was attached, by its memory: whether it asked to send, and whether it acknowledges."""

    memory: int
    asked_to_send: bool
    acknowledges: bool


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a node must still know when its process has ended and another goes on in its place.

    It is saved before anybody is told of what it says, so what others know of us is never newer. `members` are the
    nodes of the group as it was last told, with their sender ids; `sent_with` has the memory that was told to send
    with a key, by the key's fingerprint; 0 is nobody's.
    """

    group: str
    node: str
    instance: str
    term: int
    ring: SavedRing = SavedRing()
    members: tuple[tuple[str, int | None], ...] = ()
    sent_with: tuple[tuple[str, int], ...] = ()
    consumers: tuple[SavedConsumer, ...] = ()
