"""Everything that can happen to a node, as frozen values.

Adapters make the events, and `Node.handle` processes each of them with its time. The core has no I/O and no randomness,
so an event also carries random values, such as a fresh key (`KeyGenerated`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pskkey.core.settings import MEMBERS_PER_ADDRESS, Timing
from pskkey.model import UNNAMED_PSK, Advert, Key, KeyNewReason, Message, Process, PskName, Suite


class Direction(StrEnum):
    """The channel of a session: TLS to a key server, TLS from a key client, or `keys.sock`."""

    OUTBOUND = "out"
    INBOUND = "in"
    LOCAL = "local"


class Session(NamedTuple):
    """The name of one session. It is never used twice while the daemon runs.

    The core numbers outbound sessions (in `actions.Connect`), the key server inbound sessions, and the key socket local
    sessions.
    """

    direction: Direction
    number: int


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon is up: its sockets listen and discovery runs. A node gets this event once."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """The time that `next_deadline()` returned is reached.

    `unread` (seconds): what has arrived since then may still wait to be read. All that had arrived before was received.
    """

    unread: float = 0.0


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """A verified advert of our group. An advert with our id is from another node, or an old one of this node.

    `source` is the IP address that its datagram came from, with a zone if it is link-local; empty: unknown.
    """

    advert: Advert
    source: str = ""


@dataclass(frozen=True, slots=True)
class PskChanged:
    """The file of pre-shared keys has changed.

    From now on its keys sign and verify adverts, and new outbound sessions use the `active` PSK.
    """

    active: PskName
    accepted: frozenset[PskName]
    """All PSKs that peers may use, the active one included."""


@dataclass(frozen=True, slots=True)
class Connected:
    """An outbound session is open: the TLS-PSK handshake proved that the peer holds our PSK.

    The peer has also proved that it is the node of `Connect`. `psk` names the PSK of the session. It was the active PSK
    when the attempt began. `address` is the address at which the peer answered.
    """

    session: Session
    psk: PskName = UNNAMED_PSK
    address: str = ""


@dataclass(frozen=True, slots=True)
class OtherNodeAnswered:
    """At an address of the node `peer` another node has answered. The attempt goes on with the next address."""

    peer: str
    address: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An inbound session is open; `address` is the peer's IP address.

    `identity` is that of the peer's PSK, as text for reports.
    """

    session: Session
    address: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """A local session is open: a process that may read keys connected to `keys.sock`."""

    session: Session
    process: Process


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived on a session."""

    session: Session
    message: Message


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A session has ended, or an outbound session did not open. `reason` is for the operator.

    `code` for a session that did not open: "handshake" (TLS-PSK failed), "wrong_node" (another node answered),
    "refused" (nothing listens there), "timeout" (no answer), "no_handshake" (TCP opened, and then no answer),
    "unreachable" (no way to the peer) or "no_address".
    """

    session: Session
    reason: str
    code: str = "lost"


@dataclass(frozen=True, slots=True)
class KeyGenerated:
    """The fresh key that answers `actions.GenerateKey`."""

    key: Key


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """The IP addresses of this node have changed; `addresses` are all of them.

    `prefixes` are the networks that they are in, such as "192.0.2.0/24".
    """

    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The operator has changed settings of the running node. The fields are the new settings."""

    name: str
    priority: int
    eligible: bool
    max_members: int
    preempt: bool
    timing: Timing
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    members_per_address: int = MEMBERS_PER_ADDRESS
    key_requests: bool = True


@dataclass(frozen=True, slots=True)
class RekeyRequested:
    """The operator requests a rekey."""

    reason: KeyNewReason


@dataclass(frozen=True, slots=True)
class SwitchoverRequested:
    """The operator requests a handover to the member with id `successor`; None: to the first in the succession."""

    successor: str | None = None


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The daemon must end. A master hands over, a member closes its session. The last action is `actions.Stopped`."""


type Event = (
    Started
    | Timeout
    | AdvertReceived
    | PskChanged
    | Connected
    | OtherNodeAnswered
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
