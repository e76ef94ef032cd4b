"""Failed authentications: the handshakes that failed for the PSK or its identity.

A port scan, a connection without TLS, a timeout and a handshake without a common version or cipher suite are none. A
handshake that ends early, after the peer has proved that it has the key, is none either.

Two failures cannot be recognised. A server that cuts the connection in the handshake may have another PSK, or may just
have ended. If it is a node, it reports the fault of its client itself. And an identity that is not UTF-8 or has more
than 256 bytes never reaches us: OpenSSL and Python skip it in TLS 1.3, and refuse the handshake in TLS 1.2. No PSK file
can have it, so such a client has offered no PSK.
"""

import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pskkey.adapters.tls.contexts import UNKNOWN_PSK_IDENTITY
from pskkey.config.psk import MAX_IDENTITY_SIZE
from pskkey.core.events import Direction
from pskkey.errors import HandshakeError, without_keys


class Fault(StrEnum):
    """The fault of a peer that failed to authenticate."""

    UNKNOWN_IDENTITY = "unknown_identity"
    WRONG_KEY = "wrong_key"
    NO_PSK = "no_psk"
    """It is a server that does not use the PSK."""


# By the reason of OpenSSL.
_OF_CLIENT: Final = {
    "BINDER_DOES_NOT_VERIFY": Fault.WRONG_KEY,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": Fault.WRONG_KEY,
    "RECORD_LAYER_FAILURE": Fault.WRONG_KEY,
}
_OF_SERVER: Final = {
    "CERTIFICATE_VERIFY_FAILED": Fault.NO_PSK,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": Fault.WRONG_KEY,
    "RECORD_LAYER_FAILURE": Fault.WRONG_KEY,
    "SSLV3_ALERT_ILLEGAL_PARAMETER": Fault.WRONG_KEY,
    "TLSV1_ALERT_DECRYPT_ERROR": Fault.WRONG_KEY,
    "SSLV3_ALERT_BAD_RECORD_MAC": Fault.WRONG_KEY,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": Fault.UNKNOWN_IDENTITY,
}


@dataclass(frozen=True, slots=True)
class FailedAuthentication:
    """A peer at `address` has failed to authenticate. `direction` is that of the connection.

    `identity` is the PSK identity that the client of the connection offered, by `show_identity`. It is None if it
    cannot be read. `reason` is the end of a sentence about the peer.
    """

    direction: Direction
    address: str
    identity: str | None
    fault: Fault
    reason: str

    def __str__(self) -> str:
        way = "from" if self.direction is Direction.INBOUND else "to"
        return f"Connection {way} {self.address}: {self.reason}"

    @property
    def fields(self) -> dict[str, str | int | None]:
        """The fields of the log entry, for programs."""
        return {
            "address": self.address,
            "identity": self.identity,
            "direction": self.direction,
            "code": self.fault,
        }


def find_client_fault(error: Exception, identity: str | None, known: bool) -> Fault | None:
    """Return the fault of a client whose handshake failed, None for another cause.

    `identity` is the last one that the client offered, if any. `known` is whether our PSK file has it.
    """
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if (identity is not None and not known) or reason == "PSK_IDENTITY_NOT_FOUND":
        return Fault.UNKNOWN_IDENTITY
    return None if identity is None or reason is None else _OF_CLIENT.get(reason)


def find_server_fault(error: Exception) -> Fault | None:
    """Return the fault of a server with which a handshake failed, None for another cause."""
    if isinstance(error, HandshakeError):  # from `require_psk`
        return Fault.NO_PSK
    if not isinstance(error, ssl.SSLError):
        return None
    if UNKNOWN_PSK_IDENTITY in str(error):
        return Fault.UNKNOWN_IDENTITY
    return None if error.reason is None else _OF_SERVER.get(error.reason)


def show_identity(identity: str) -> str:
    """Return an identity for reports: printable, of at most 128 bytes, and with each part hidden that may be a key.

    A stranger may choose it, and an operator may have confused it with the key.
    """
    shown = "".join(
        letter if letter.isprintable() and letter != "\\" else letter.encode("unicode_escape").decode()
        for letter in without_keys(identity)
    )
    data = shown.encode()
    return shown if len(data) <= MAX_IDENTITY_SIZE else data[: MAX_IDENTITY_SIZE - 3].decode(errors="ignore") + "..."
