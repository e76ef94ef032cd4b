"""The TLS context of a key server, which its connections share: it takes 0.2 ms to make one.

OpenSSL asks a context for the key of an identity, and does not name the connection. But it asks only within
`do_handshake`, and that is called for one connection at a time. So each connection has an `Offer`, which answers for
the time of the call.

A context keeps the sessions of TLS 1.2 whose handshake succeeded. A client may resume one by its id, and then OpenSSL
does not ask for the PSK. Python cannot forbid that. So a context that keeps a session gets no further connection. A
connection that it has got before may still resume one: that handshake fails, because it has no identity. In TLS 1.3
only a ticket resumes a session, and these contexts send none.
"""

import ssl
from dataclasses import dataclass, field

from pskkey.adapters.tls.contexts import CURVE, LEGACY_SUITES, MODERN_SUITES, node_protocol
from pskkey.config.psk import PskFile
from pskkey.errors import HandshakeError


@dataclass(slots=True, eq=False)
class Offer:
    """The identities that one client offers, known or not, before it has proved that it has the key.

    `psk` is the PSK file at the beginning of the handshake. If the handshake succeeds, the last identity is the peer's.
    """

    psk: PskFile
    identities: list[str] = field(default_factory=list)

    @property
    def identity(self) -> str | None:
        """The last offered identity, None before the first one."""
        return self.identities[-1] if self.identities else None

    def find_key(self, identity: str | None) -> bytes:
        """Note an identity and return its key, or no bytes if the PSK file does not have it."""
        if not identity:
            return b""
        self.identities.append(identity)
        key = self.psk.accepted.get(identity)
        return b"" if key is None else key.reveal()


class _Current:
    """The offer of the connection whose handshake is called now. It is apart from `ServerContext`, because a context
    that its own callback can reach is never freed: the garbage collector of Python does not see the callback.
    """

    def __init__(self) -> None:
        self.offer: Offer | None = None

    def find_key(self, identity: str | None) -> bytes:
        return b"" if self.offer is None else self.offer.find_key(identity)


@dataclass(slots=True, eq=False)
class _Shared:
    """A context that connections share."""

    context: ssl.SSLContext
    current: _Current
    keeps_session: bool = False
    """Whether a client could resume a session: a handshake of TLS 1.2 has succeeded."""


class ServerContext:
    """Makes the TLS sessions of a server. `node_id` is the node of this server, None if it is of no node.

    `legacy_clients` adds the suites of older C clients, which have no forward secrecy.
    """

    def __init__(self, legacy_clients: bool, node_id: str | None = None) -> None:
        self._legacy_clients = legacy_clients
        self._node_id = node_id
        self._shared = self._make()

    def begin(self, psk: PskFile) -> "ServerHandshake":
        """Return the handshake of a new connection."""
        if self._shared.keeps_session:
            self._shared = self._make()
        return ServerHandshake(self._shared, Offer(psk))

    def _make(self) -> _Shared:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join(MODERN_SUITES + (LEGACY_SUITES if self._legacy_clients else ())))
        context.set_ecdh_curve(CURVE)
        # A session that is resumed from a ticket would not use the PSK again.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        if self._node_id is not None:
            context.set_alpn_protocols([node_protocol(self._node_id)])
        current = _Current()
        context.set_psk_server_callback(current.find_key)
        return _Shared(context, current)


class ServerHandshake:
    """The handshake of one connection at the server."""

    def __init__(self, shared: _Shared, offer: Offer) -> None:
        self.offer = offer
        self._shared = shared

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the TLS session, between these buffers."""
        return self._shared.context.wrap_bio(incoming, outgoing, server_side=True)

    def split(self, data: memoryview) -> tuple[memoryview]:
        """Return the bytes of the client in one piece."""
        return (data,)

    def go_on(self, tls: ssl.SSLObject) -> None:
        """Go on with the handshake, and return at its end.

        Raises SSLWantReadError if it needs more bytes, and SSLError or HandshakeError if it fails.
        """
        current = self._shared.current
        if current.offer is not None:
            raise RuntimeError("the handshake of one connection was called within that of another")
        current.offer = self.offer
        try:
            tls.do_handshake()
        finally:
            current.offer = None
        if tls.version() != "TLSv1.3":
            self._shared.keeps_session = True
        if not self.offer.identities:
            raise HandshakeError("it resumed an earlier session, which does not use the pre-shared key")
