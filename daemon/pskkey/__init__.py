"""pskkey: the group-key daemon for multicast DTLS."""

from pskkey.api import KeyClient, KeyServer
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
from pskkey.watcher import AsyncKeyWatcher, KeyWatcher

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
