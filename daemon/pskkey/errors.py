"""Errors, by whose fault they are and who can mend them.

Each message is one sentence for the person who can act on it, and never holds a secret.
"""


class PskkeyError(Exception):
    """Base of every error that pskkey raises on purpose."""


class ConfigError(PskkeyError):
    """The operator's configuration cannot be used.

    The message names the file, the key within it and what is allowed there.
    """


class BadPacket(PskkeyError):
    """Bytes from an untrusted source are not a valid message; the only error that decoders raise."""


class PeerError(PskkeyError):
    """A peer that we authenticated refused us or broke the protocol.

    `code` is the machine-readable code of its ERROR packet (or our own word for what it did).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(PskkeyError):
    """A TLS-PSK handshake failed: wrong key, unknown identity, or a peer that is no key server."""


class Unreachable(PskkeyError):
    """Nothing answers at an address: closed port, no route, time-out, or no socket at a path."""


class NoAnswer(Unreachable):
    """A peer took our connection or request and then said nothing in time, or closed without an answer."""
