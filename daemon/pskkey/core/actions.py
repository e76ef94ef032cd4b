"""Everything that a node can ask to be done.

`Node.handle` returns these in order, and the driver performs them in that order. Each docstring says what holds
before the action is handed out, so that a crash between two of them can be reasoned about.
"""

from dataclasses import dataclass

from pskkey.core.events import Session
from pskkey.core.notices import Notice
from pskkey.model import Advert, ErrorMessage, Message, Suite


@dataclass(frozen=True, slots=True)
class Connect:
    """Open an outbound session to the first of `addresses` that answers, within `timeout` seconds, with the active PSK.

    Answered by `events.Connected` or `events.Disconnected`, exactly one of them. A session that was connected ends with
    one `events.Disconnected`, unless we close it.
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
    """Make a fresh random key of this suite; answered by `events.KeyGenerated`."""

    suite: Suite


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing is left to do: the daemon may end."""


type Action = Connect | Send | Disconnect | Advertise | GenerateKey | Notice | Stopped
