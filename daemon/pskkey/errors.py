"""Errors: one class for each party that causes them and can mend them.

Each message is one sentence for the person who can act on it, and never holds a secret.
"""

import re
from typing import Final

_HEX: Final = re.compile(r"[0-9A-Fa-f]{16,}")
_SPACED_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}[:\s]){11,}(?:[0-9A-Fa-f]{2})?")
"""Twelve or more bytes in the form of dumps and certificates. Addresses have fewer bytes, or not two digits each."""
_BASE64: Final = re.compile(r"[0-9A-Za-z+/_-]{32,}=*")
_WORD: Final = re.compile(r"[0-9A-Za-z+_-]{20,}=*")


def without_keys(text: object) -> str:
    """Return a text of the operator (a name, a value, a path) with each part hidden that may be a key.

    A message must not repeat a key that was pasted into the wrong place, or given as the name of a file.
    """
    hidden = _HEX.sub("<hidden>", _SPACED_HEX.sub("<hidden>", str(text)))
    return _WORD.sub(_unless_readable, _BASE64.sub(_unless_readable, hidden))


def _unless_readable(found: re.Match[str]) -> str:
    """Hide a run that looks like Base64: it has digits, small and capital letters. Long words and paths seldom do."""
    run = found[0]
    mixed = all(any(test(letter) for letter in run) for test in (str.isdigit, str.islower, str.isupper))
    return "<hidden>" if mixed and not run.startswith("/") else run


class PskkeyError(Exception):
    """Base of every error that pskkey raises on purpose."""


class ConfigError(PskkeyError):
    """The operator's configuration cannot be used.

    The message names the file, the key within it and what is allowed there.
    """


class BadPacket(PskkeyError):
    """Bytes from an untrusted source are not a valid message; the only error that decoders raise."""


class NoCommonLevel(BadPacket):
    """A packet is of a version without a protocol level in common with this one, and so different that it is bad."""


class PeerError(PskkeyError):
    """A peer that we authenticated refused us or broke the protocol.

    `code` is the machine-readable code of its ERROR packet, or our own code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(PskkeyError):
    """A TLS-PSK handshake failed: wrong key, unknown identity, or a peer that is no key server."""


class Unreachable(PskkeyError):
    """Nothing answers at an address: closed port, no route, time-out, or no socket at a path."""


class NothingListens(Unreachable):
    """The machine at an address refused the connection, or no program listens at the path of a socket."""


class WrongNode(PskkeyError):
    """Another node than the meant one answered at an address."""


class NoAnswer(Unreachable):
    """A peer accepted our connection or request, but sent nothing in time, or closed without an answer."""
