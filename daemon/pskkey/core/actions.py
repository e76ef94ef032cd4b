"""The actions that a node can request.

`Node.handle` returns actions in order, and the driver performs them in that order. Each docstring states what is true
before the action is returned, so that the effect of a crash between two actions is known.
"""

from dataclasses import dataclass
from typing import Final

from pskkey.core.events import Session
from pskkey.core.notices import Notice
from pskkey.model import Advert, ErrorMessage, Message, Suite

STAGGER: Final = 0.25
"""Seconds after which the next address of a peer is tried beside the earlier ones (RFC 8305 section 5). It is tried at
once if an earlier one fails, and later if a handshake is under way; see PATIENCE_FOR_HANDSHAKE."""

PATIENCE_FOR_HANDSHAKE: Final = 2.0
"""Seconds for which no other address is tried after TCP has opened at one. The peer is alive there and may be busy, and
at another address it would have to pay for a second handshake."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open an outbound session with the node `peer`, with the active PSK.

    TCP must open within `timeout` seconds. After that the handshake may take `patience` seconds, or what is left of
    `timeout` if that is longer.
    The `addresses` are tried in this order, STAGGER apart. The first one at which `peer` answers counts. If another
    node answers, that is reported by `events.OtherNodeAnswered`.
    The answer is one `events.Connected` or one `events.Disconnected`. A connected session ends with one
    `events.Disconnected`. After a `Disconnect` of this session neither event follows.
    """

    session: Session
    peer: str
    addresses: tuple[str, ...]
    port: int
    timeout: float
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` on an open session. The node already holds every key in a KEY_STATE."""

    session: Session
    message: Message


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close a session, or stop the attempt to open it, after sending `error`. No `events.Disconnected` follows."""

    session: Session
    error: ErrorMessage | None = None


@dataclass(frozen=True, slots=True)
class Advertise:
    """Answer questions over mDNS with this advert from now on, and announce it now if it has news.

    The advert is complete. The node already has the announced role: a master accepts JOIN before this goes out.
    """

    advert: Advert
    is_news: bool = True


@dataclass(frozen=True, slots=True)
class GenerateKey:
    """Make a fresh random key of this suite. The answer is `events.KeyGenerated`."""

    suite: Suite


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node has nothing left to do: the daemon may end."""


type Action = Connect | Send | Disconnect | Advertise | GenerateKey | Notice | Stopped
