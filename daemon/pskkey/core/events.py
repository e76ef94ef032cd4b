"""Everything that can happen to a node, as the core sees it.

Adapters make these; `Node.handle` takes them. They carry what the core may not reach for itself: the time comes beside
each, and randomness and fresh secrets inside (`KeyGenerated`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pskkey.core.settings import MEMBERS_PER_ADDRESS, Timing
from pskkey.model import UNNAMED_PSK, Advert, Key, KeyNewReason, Message, Process, PskName, Suite


class Direction(StrEnum):
    """Through which door a session came."""

    OUTBOUND = "out"
    INBOUND = "in"
    LOCAL = "local"


class Session(NamedTuple):
    """The name of one session, never used twice while the daemon lives.

    Outbound: to a key server, numbered by the core (in `actions.Connect`). Inbound: from a key client, numbered by the
    key server. Local: a consumer on `keys.sock`, numbered by the key socket.
    """

    direction: Direction
    number: int


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon is up: sockets listen, discovery runs. The first event of a node."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """The time that `next_deadline()` named has come."""


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """A verified advert of another node of our group."""

    advert: Advert


@dataclass(frozen=True, slots=True)
class PskChanged:
    """The file of pre-shared keys is another now.

    Adverts are signed and verified with other keys from now on, and sessions opened with the `active` PSK.
    """

    active: PskName
    accepted: frozenset[PskName]
    """All that peers may use, the active one included."""


@dataclass(frozen=True, slots=True)
class Connected:
    """An outbound session is open: the TLS-PSK handshake proved that the peer holds our PSK.

    `psk` is the one that was used. It was the active one when the attempt began.
    """

    session: Session
    psk: PskName = UNNAMED_PSK


@dataclass(frozen=True, slots=True)
class Accepted:
    """An inbound session is open; `address` is the peer's IP address."""

    session: Session
    address: str


@dataclass(frozen=True, slots=True)
class Attached:
    """A local session is open: a process that may read keys connected to `keys.sock`."""

    session: Session
    process: Process


@dataclass(frozen=True, slots=True)
class Received:
    """A message came on an open session."""

    session: Session
    message: Message


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A session is over, or an outbound one never opened; `reason` is a sentence for the operator."""

    session: Session
    reason: str


@dataclass(frozen=True, slots=True)
class KeyGenerated:
    """The fresh key that `actions.GenerateKey` asked for."""

    key: Key


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """Our own IP addresses are others now."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The operator has changed what may change while the node runs."""

    name: str
    priority: int
    eligible: bool
    max_members: int
    preempt: bool
    timing: Timing
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    members_per_address: int = MEMBERS_PER_ADDRESS


@dataclass(frozen=True, slots=True)
class RekeyRequested:
    """The operator asks for a new key."""

    reason: KeyNewReason


@dataclass(frozen=True, slots=True)
class SwitchoverRequested:
    """The operator wants another master: the node with this id, or, for None, the first in the succession."""

    heir: str | None = None


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The daemon shall end: hand over, take leave, then `actions.Stopped`."""


type Event = (
    Started
    | Timeout
    | AdvertReceived
    | PskChanged
    | Connected
    | Accepted
    | Attached
    | Received
    | Disconnected
    | KeyGenerated
    | AddressesChanged
    | SettingsChanged
    | RekeyRequested
    | SwitchoverRequested
    | StopRequested
)
