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

__version__ = "0.1.0"

__all__ = [
    "BadPacket",
    "ConfigError",
    "HandshakeError",
    "Key",
    "KeyClient",
    "KeyServer",
    "NoAnswer",
    "PeerError",
    "PskkeyError",
    "Secret",
    "Suite",
    "Unreachable",
    "__version__",
]
