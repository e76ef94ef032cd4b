"""Everything that can happen to a node, as the core sees it.

Adapters make these; `Node.handle` takes them. They carry what the core may not reach for itself: the time comes beside
each, and randomness and fresh secrets inside (`KeyGenerated`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pskkey.model import Advert, Key, KeyNewReason, Message


class Direction(StrEnum):
    """Who opened a session."""

    OUTBOUND = "out"
    INBOUND = "in"


class Session(NamedTuple):
    """The name of one TLS-PSK session with a peer, never used twice.

    The core numbers the outbound ones (in `actions.Connect`), the key server the inbound ones.
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
class AdvertRemoved:
    """A node said goodbye on mDNS, or its record expired."""

    id: str


@dataclass(frozen=True, slots=True)
class Connected:
    """An outbound session is open: the TLS-PSK handshake proved that the peer holds our PSK."""

    session: Session


@dataclass(frozen=True, slots=True)
class Accepted:
    """An inbound session is open; `address` is the peer's IP address."""

    session: Session
    address: str


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
class WatcherAttached:
    """A session manager watches the key state.

    `process` tells one process from its successor (pid and start time); `will_send`: it wants to send to the group.
    """

    watcher: int
    process: str
    will_send: bool


@dataclass(frozen=True, slots=True)
class WatcherAcknowledged:
    """A session manager installed `epoch` for reception."""

    watcher: int
    epoch: int


@dataclass(frozen=True, slots=True)
class WatcherDetached:
    """A session manager is gone."""

    watcher: int


@dataclass(frozen=True, slots=True)
class RekeyRequested:
    """The operator, or a session manager of this node, asks for a new key."""

    reason: KeyNewReason


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The daemon shall end: hand over, take leave, then `actions.Stopped`."""


type Event = (
    Started
    | Timeout
    | AdvertReceived
    | AdvertRemoved
    | Connected
    | Accepted
    | Received
    | Disconnected
    | KeyGenerated
    | WatcherAttached
    | WatcherAcknowledged
    | WatcherDetached
    | RekeyRequested
    | StopRequested
)
