"""TLS with a pre-shared key (PSK): the two contexts, and failed handshakes told in sentences.

The client speaks TLS 1.3 only, where the handshake is bound to the PSK (RFC 8446 section 4.2.11), and must not take a
certificate instead of it. `CERT_NONE` would let any server with a self-signed certificate through without the PSK ever
being used, so the client demands a certificate that verifies and trusts no authority at all: a server that holds the
PSK needs none, and every other one fails.

The server has no certificate, so that a client without the PSK cannot finish a handshake. In TLS 1.3 OpenSSL lets an
external PSK work with suites of SHA-256 only, and chooses among those by itself; Python 3.13 has no way to name them.
"""

import errno
import ssl

from pskkey.config.psk import Psk, PskFile
from pskkey.errors import HandshakeError

SERVER_SUITES = ("ECDHE-PSK-CHACHA20-POLY1305",)
LEGACY_SUITES = ("PSK-AES128-GCM-SHA256", "PSK-AES128-CBC-SHA256")
"""For TLS 1.2, by OpenSSL's names. The cipher string `PSK` would bring suites without encryption with it."""


CURVE = "prime256v1"
"""The one group for the key exchange. A wolfSSL client of TLS 1.2 does not say which curves it knows; OpenSSL takes
X25519 then, and Debian's wolfSSL ends the handshake. Every TLS library has P-256 (RFC 8446 section 9.1 demands it).
"""


def server_context(psk: PskFile, legacy_clients: bool, offered: list[str]) -> ssl.SSLContext:
    """Return a fresh context for one connection.

    Each identity that the client offers is put into `offered`, known or not, before it has proved to hold its key; when
    the handshake then succeeds, the last one is the peer's. It is a list and no callback, because a context that leads
    back to its own connection is never freed: Python's garbage collector does not see a context's PSK callback.
    `legacy_clients` adds the suites of older C clients,
    which have no forward secrecy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SERVER_SUITES + (LEGACY_SUITES if legacy_clients else ())))
    context.set_ecdh_curve(CURVE)
    # A session resumed from a ticket would not ask for the PSK again.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION

    def key_of(identity: str | None) -> bytes:
        if not identity:
            return b""
        offered.append(identity)
        key = psk.accepted.get(identity)
        return b"" if key is None else key.reveal()

    context.set_psk_server_callback(key_of)
    return context


def client_context(psk: Psk) -> ssl.SSLContext:
    """Return a context that speaks TLS 1.3 with this PSK and with nothing else; see `require_psk`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED  # and no authority is ever loaded
    context.set_ecdh_curve(CURVE)  # or a server of ours would ask for it in another round trip
    context.set_psk_client_callback(lambda _hint: (psk.identity, psk.key.reveal()))
    return context


def require_psk(tls: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Raise HandshakeError unless the client's finished handshake was bound to the PSK.

    OpenSSL calls a session begun with an external PSK "reused". The second check makes sure that what must never
    happen, a peer that is trusted although it did not use the PSK, is caught before a byte is sent to it.
    """
    if tls.version() != "TLSv1.3" or not tls.session_reused or tls.getpeercert(binary_form=True) is not None:
        raise HandshakeError("the server did not use the pre-shared key; it is not a key server of ours")


# Our own entry: no alert came. Servers on Python's asyncio, ours too, close without one; and one that was sent is lost
# when its sender closes a socket with unread bytes in it.
_CUT = "CUT"

# What the server's own TLS says of a failed handshake, by OpenSSL's reason.
_OF_CLIENT = {
    _CUT: "it ended the connection in the middle of the handshake",
    "BINDER_DOES_NOT_VERIFY": "its key for this identity is not ours (wrong PSK)",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "its key for this identity is not ours (wrong PSK)",
    "DIGEST_CHECK_FAILED": "its key for this identity is not ours (wrong PSK)",
    "PSK_IDENTITY_NOT_FOUND": "it knows no PSK identity of ours",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "it offered no PSK that fits (no SHA-256 cipher suite, or no PSK at all)",
    "NO_SHARED_CIPHER": "it offers no cipher suite of ours (older C clients need legacy_clients)",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version of ours (1.2 and 1.3)",
    "HTTP_REQUEST": "it speaks HTTP and not TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
}

# What the client's TLS says, most often of an alert that the server sent. Servers differ in their alerts, so one
# sentence has to do for the several causes of each.
_OF_SERVER = {
    _CUT: "it ended the connection in the handshake: most often it knows another key for our PSK identity, or not the"
    " identity",
    "CERTIFICATE_VERIFY_FAILED": "it presented a certificate and does not use our PSK, so it is no key server of ours",
    "SSLV3_ALERT_ILLEGAL_PARAMETER": "it holds another key for our PSK identity (wrong PSK)",
    "TLSV1_ALERT_DECRYPT_ERROR": "it holds another key for our PSK identity (wrong PSK)",
    "SSLV3_ALERT_BAD_RECORD_MAC": "it holds another key for our PSK identity (wrong PSK)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it does not know our PSK identity",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it speaks HTTP and not TLS",
}
_UNKNOWN_PSK_IDENTITY = "unknown psk identity"  # OpenSSL 3.0 has no reason of this name for Python


def explain_client_failure(error: Exception, identity: str | None, known: bool) -> str:
    """Say, to the server's operator, why a client's handshake failed; to be put after the client's address.

    `identity` is the last that it offered, if any, and `known` whether that one is in our PSK file.
    """
    if identity is not None and not known:
        return f"it offered the PSK identity {_shown(identity)}, which our PSK file does not have"
    offered = "" if identity is None else f" (PSK identity {_shown(identity)})"
    return _explain(error, _OF_CLIENT) + offered


def explain_server_failure(error: Exception, identity: str) -> str:
    """Say, to the client's operator, why the handshake with a server failed; to be put after the server's address."""
    return f"{_explain(error, _OF_SERVER)} (our PSK identity is {_shown(identity)})"


def _explain(error: Exception, reasons: dict[str, str]) -> str:
    if isinstance(error, HandshakeError):
        return str(error)
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return reasons[_CUT]
    if isinstance(error, ssl.SSLError):
        if error.reason in reasons:
            return reasons[error.reason]
        if _UNKNOWN_PSK_IDENTITY in str(error):
            return "it does not know our PSK identity"
        return f"TLS failed: {(error.reason or 'unknown cause').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError) or (isinstance(error, ConnectionAbortedError) and error.errno is None):
        return "the handshake took too long"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the connection failed in the handshake ({errno.errorcode.get(error.errno, error.errno)})"
    return f"the handshake failed ({type(error).__name__})"


def _shown(identity: str) -> str:
    """An identity that a stranger chose, fit for a log."""
    return ascii(identity if len(identity) <= 64 else identity[:61] + "...")
