"""TLS with a pre-shared key (PSK): the contexts of clients, and the causes of failed handshakes.

The client speaks TLS 1.3 only. There the handshake is bound to the PSK (RFC 8446 section 4.2.11). The client must not
accept a certificate instead of the PSK. With `CERT_NONE` it would accept any server with a self-signed certificate. So
the client demands a valid certificate and trusts no authority at all: a server with the PSK needs no certificate, and
the handshake with any other server fails.

Several nodes may announce the same address, because each of them has a network of its own with it. So the client names
the node that it means, as an application protocol (ALPN, RFC 7301). Only that node selects this protocol, and the
handshake authenticates the selection.

An older key server in C speaks only TLS 1.2 with a plain PSK. For it the stand-alone client has a context of its own,
which speaks nothing else. It offers no TLS 1.3: a wolfSSL server that has TLS 1.3, and a list with suites of TLS 1.2
only, would choose TLS 1.3 and then find no suite. All suites that the client offers take their secret from the PSK. So
a server proves the PSK by its Finished message, which also authenticates the offer and the choice of version and suite
(RFC 5246 section 7.4.9). An attacker on the way can end the handshake, but not choose a weaker suite.

The server has no certificate, so that a client without the PSK cannot finish a handshake. In TLS 1.3 OpenSSL uses an
external PSK only with suites of SHA-256, and chooses one of these by itself. Python 3.13 cannot name them. The
context of the server is in `server_context`.
"""

import errno
import ssl
from collections.abc import Sequence

from pskkey.config.psk import Psk
from pskkey.errors import HandshakeError, without_keys

MODERN_SUITES = ("ECDHE-PSK-CHACHA20-POLY1305",)
LEGACY_SUITES = ("PSK-AES128-GCM-SHA256", "PSK-AES128-CBC-SHA256")
"""For TLS 1.2, by OpenSSL's names. The cipher string `PSK` would include suites without encryption.

The legacy suites have no forward secrecy: the PSK decrypts each recorded session, also one of long ago.
"""


CURVE = "prime256v1"
"""The only group for the key exchange. A wolfSSL client of TLS 1.2 does not state which curves it knows. Then OpenSSL
chooses X25519, and Debian's wolfSSL ends the handshake. Every TLS library has P-256 (RFC 8446 section 9.1 demands it).
"""


def node_protocol(node_id: str) -> str:
    """Return the application protocol that only the node with this id speaks."""
    return f"pskkey/{node_id}"


def client_context(psk: Psk, node_ids: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a context for TLS 1.3 with this PSK only; see `require_psk`.

    `node_ids` are the nodes that the client means. The server that is one of them selects its `node_protocol`.
    """
    context = _client_context(psk)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if node_ids:
        context.set_alpn_protocols([node_protocol(node_id) for node_id in node_ids])
    return context


def legacy_server_context(psk: Psk) -> ssl.SSLContext:
    """Return a client's context for an older key server: TLS 1.2 with this PSK only; see `require_psk`.

    A session has forward secrecy only if the server chooses one of MODERN_SUITES.
    """
    context = _client_context(psk)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(MODERN_SUITES + LEGACY_SUITES))
    # wolfSSL before 5.2 does not send the extension against spliced sessions (RFC 5746), which OpenSSL demands. Here
    # nobody can splice: to open a session with the server, an attacker needs a PSK of the server.
    context.options |= ssl.OP_LEGACY_SERVER_CONNECT | ssl.OP_NO_RENEGOTIATION
    return context


def _client_context(psk: Psk) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED  # but no authority is loaded
    context.set_ecdh_curve(CURVE)  # else a server of ours asks for it in another round trip
    context.set_psk_client_callback(lambda _hint: (psk.identity, psk.key.reveal()))
    return context


def require_psk(tls: ssl.SSLObject | ssl.SSLSocket, legacy_server: bool = False) -> None:
    """Raise HandshakeError unless the client's finished handshake was bound to the PSK.

    OpenSSL calls a session of TLS 1.3 with an external PSK "reused". In TLS 1.2, which is for a `legacy_server`, the
    suite decides. The context demands the PSK already. This second check makes sure that no byte is sent to a peer that
    did not use it.
    """
    if legacy_server:
        suite, _version, _bits = tls.cipher() or ("none", "", 0)
        is_bound = tls.version() == "TLSv1.2" and suite in MODERN_SUITES + LEGACY_SUITES
    else:
        is_bound = tls.version() == "TLSv1.3" and tls.session_reused is True
    if not is_bound:
        raise HandshakeError("the server did not use the pre-shared key; it is not a key server of ours")


# Our own entry: no alert came. Servers on Python's asyncio, such as ours, close without an alert. An alert is also lost
# when its sender closes a socket with unread bytes.
_CUT = "CUT"

# Causes of a failed handshake at the server, by the reason of OpenSSL.
_OF_CLIENT = {
    _CUT: "it ended the connection in the middle of the handshake",
    "BINDER_DOES_NOT_VERIFY": "its key for this identity is not ours (wrong PSK)",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "its key for this identity is not ours (wrong PSK)",
    "RECORD_LAYER_FAILURE": "its key for this identity is not ours (wrong PSK)",  # of OpenSSL 3.5, in TLS 1.2
    "PSK_IDENTITY_NOT_FOUND": "it knows no PSK identity of ours",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "it offered no PSK that fits (no SHA-256 cipher suite, or no PSK at all)",
    "NO_SHARED_CIPHER": "it offers no cipher suite of ours (older C clients need legacy_clients)",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version of ours (1.2 and 1.3)",
    "HTTP_REQUEST": "it speaks HTTP and not TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
}

# Causes of a failed handshake at the client, most often by an alert of the server. Servers differ in their alerts, so
# one sentence covers several causes.
_OF_SERVER = {
    _CUT: "it ended the connection in the handshake: most often it knows another key for our PSK identity, or does not"
    " have this identity",
    "CERTIFICATE_VERIFY_FAILED": "it presented a certificate and does not use our PSK, so it is no key server of ours",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "it selected our PSK, but does not have its key (wrong PSK)",
    "RECORD_LAYER_FAILURE": "it selected our PSK, but does not have its key (wrong PSK)",  # of OpenSSL 3.5
    "SSLV3_ALERT_ILLEGAL_PARAMETER": "it holds another key for our PSK identity (wrong PSK)",
    "TLSV1_ALERT_DECRYPT_ERROR": "it holds another key for our PSK identity (wrong PSK)",
    "SSLV3_ALERT_BAD_RECORD_MAC": "it holds another key for our PSK identity (wrong PSK)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it does not know our PSK identity",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it speaks HTTP and not TLS",
}
# The same for a client that uses `legacy_server_context`.
_OF_LEGACY_SERVER = _OF_SERVER | {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it has no cipher suite with a PSK that we offer, so it is no key server of ours",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.2, so it needs no --legacy-server",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.2",
    "PSK_IDENTITY_NOT_FOUND": "it sent a PSK identity hint that is not UTF-8",
}

# Servers of TLS 1.2 end a handshake of TLS 1.3 with one of these. The older C key server sends no alert.
_LIKE_LEGACY_SERVER = {
    _CUT,
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
}

UNKNOWN_PSK_IDENTITY = "unknown psk identity"
"""A part of the text of an error. OpenSSL 3.0 has no reason of this name for Python."""


def explain_client_failure(error: Exception, identity: str | None, known: bool) -> str:
    """Explain a client's failed handshake to the server's operator, as text to put after the client's address.

    `identity` is the last one that the client offered, if any. `known` is whether our PSK file has it.
    """
    if identity is not None and not known:
        return f"it offered the PSK identity {_shown(identity)}, which our PSK file does not have"
    offered = "" if identity is None else f" (PSK identity {_shown(identity)})"
    return _explain(error, _OF_CLIENT) + offered


def explain_server_failure(error: Exception, identity: str, legacy_server: bool = False) -> str:
    """Explain a failed handshake with a server to the client's operator, as text to put after the server's address.

    `legacy_server` is whether the client used `legacy_server_context`.
    """
    reasons = _OF_LEGACY_SERVER if legacy_server else _OF_SERVER
    return f"{_explain(error, reasons)} (our PSK identity is {_shown(identity)})"


def is_like_legacy_server(error: Exception) -> bool:
    """Return whether a handshake of TLS 1.3 fails in this way with a server that speaks TLS 1.2 only."""
    return _reason(error) in _LIKE_LEGACY_SERVER


def _reason(error: Exception) -> str | None:
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return _CUT
    return error.reason if isinstance(error, ssl.SSLError) else None


def _explain(error: Exception, reasons: dict[str, str]) -> str:
    if isinstance(error, HandshakeError):
        return str(error)
    reason = _reason(error)
    if reason in reasons:
        return reasons[reason]
    if isinstance(error, ssl.SSLError):
        if UNKNOWN_PSK_IDENTITY in str(error):
            return "it does not know our PSK identity"
        return f"TLS failed: {(reason or 'unknown cause').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError) or (isinstance(error, ConnectionAbortedError) and error.errno is None):
        return "the handshake took too long"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the connection failed in the handshake ({errno.errorcode.get(error.errno, error.errno)})"
    return f"the handshake failed ({type(error).__name__})"


def _shown(identity: str) -> str:
    """Return an identity in a form that is safe in a log line, because a stranger may choose it."""
    hidden = without_keys(identity)
    return ascii(hidden if len(hidden) <= 64 else hidden[:61] + "...")
