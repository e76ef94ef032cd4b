"""The handshake of one connection at the client.

A server that does not use the PSK may send certificates instead. OpenSSL decodes their keys before it finds that we
trust none of them, and a key of a few hundred bytes can be made so that this takes a tenth of a second. So OpenSSL gets
the ServerHello alone first, which shows whether the server uses the PSK (RFC 8446 section 4.2.11). If it does, no
certificate may follow.
"""

import ssl
from collections.abc import Iterator
from typing import Final

from pskkey.errors import HandshakeError

RECORD_HEADER: Final = 5
"""Bytes of the header of a TLS record: type, version, and the size of the rest (RFC 8446 section 5.1)."""

FIRST_RECORD_LIMIT: Final = 2048
"""Bytes. OpenSSL's ServerHello takes less than 200."""


class ClientHandshake:
    """A handshake with this context of a client. The server must send its ServerHello as the first record."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._first: bytearray | None = bytearray()
        """The first record, as far as it is here; None once it was passed on."""

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the TLS session, between these buffers."""
        return self._context.wrap_bio(incoming, outgoing)

    def split(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Yield the bytes of the server in the pieces after which `go_on` must be called."""
        if self._first is None:
            yield data
            return
        self._first += data
        if len(self._first) < RECORD_HEADER:
            return
        size = RECORD_HEADER + int.from_bytes(self._first[3:RECORD_HEADER])
        if len(self._first) < size <= FIRST_RECORD_LIMIT:
            return
        received, self._first = bytes(self._first), None
        # The header is enough for OpenSSL to find that the server does not speak TLS, or for this class to end it.
        yield received[: size if size <= FIRST_RECORD_LIMIT else RECORD_HEADER]
        if len(received) > size:
            yield received[size:]

    def go_on(self, tls: ssl.SSLObject) -> None:
        """Go on with the handshake, and return at its end.

        Raises SSLWantReadError, SSLError if it fails, or HandshakeError if the server does not use the PSK.
        """
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            # To OpenSSL, a session with an external PSK is "reused".
            if self._first is None and not tls.session_reused:
                raise HandshakeError("it does not use our PSK, so it is no key server of ours") from None
            raise
