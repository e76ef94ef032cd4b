"""The handshake of one connection at the client."""

import ssl


class ClientHandshake:
    """A handshake with this context of a client."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the TLS session, between these buffers."""
        return self._context.wrap_bio(incoming, outgoing)

    def go_on(self, tls: ssl.SSLObject) -> None:
        """Go on with the handshake, and return at its end. Raises SSLWantReadError, or SSLError if it fails."""
        tls.do_handshake()
