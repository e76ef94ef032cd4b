"""pskkey: the group-key daemon for multicast DTLS.

The modules that need TLS or the packet codec are loaded on their first use, so that a short-lived program such as
`pskkeyctl` does not load them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pskkey.errors import (
    BadPacket,
    ConfigError,
    HandshakeError,
    NoAnswer,
    PeerError,
    PskkeyError,
    Unreachable,
)
from pskkey.model import Key, Suite
from pskkey.secret import Secret

if TYPE_CHECKING:
    from pskkey.client.watcher import AsyncKeyWatcher, KeyWatcher
    from pskkey.keyserver.api import KeyClient, KeyServer

__version__ = "0.1.0"

__all__ = [
    "AsyncKeyWatcher",
    "BadPacket",
    "ConfigError",
    "HandshakeError",
    "Key",
    "KeyClient",
    "KeyServer",
    "KeyWatcher",
    "NoAnswer",
    "PeerError",
    "PskkeyError",
    "Secret",
    "Suite",
    "Unreachable",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a class on its first use (PEP 562)."""
    match name:
        case "KeyServer" | "KeyClient":
            return getattr(import_module("pskkey.keyserver.api"), name)
        case "KeyWatcher" | "AsyncKeyWatcher":
            return getattr(import_module("pskkey.client.watcher"), name)
        case "mcast":
            return import_module("pskkey.mcast")
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
