"""A TLS session without a socket: bytes of the network in and out, and plain bytes in and out.

OpenSSL's two buffers of a session keep the greatest size that they once had. So no more than BUFFER_SIZE bytes pass
through them at once. With them a session takes some 40 KiB.
"""

import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

BUFFER_SIZE: Final = 8192
"""Bytes that pass through a session at once."""


RECORD_EXTRA: Final = 72
"""More bytes than a record takes beside its data: 26 in TLS 1.3, up to 69 in TLS 1.2 with CBC."""

MOST_EMPTY_BYTES: Final = 65536
"""Bytes of the peer that may carry no data: KeyUpdate, tickets, padding and other messages of TLS itself. They cost
time, and come at no bounded rate. A peer of ours sends fewer than a hundred.
"""


class Handshake(Protocol):
    """A handshake as client or server."""

    def split(self, data: memoryview) -> Iterable[bytes | memoryview]:
        """Return the bytes of the peer in the pieces after which `go_on` must be called."""

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the TLS session, between these buffers."""

    def go_on(self, tls: ssl.SSLObject) -> None:
        """Go on with the handshake, and return at its end.

        Raises SSLWantReadError if it needs more bytes, and SSLError or HandshakeError if it fails.
        """


class TlsSession:
    """A TLS session that begins with `handshake`."""

    def __init__(self, handshake: Handshake) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = handshake.wrap(self._incoming, self._outgoing)
        self._empty_bytes = 0
        self._is_broken = False

    @property
    def empty_bytes(self) -> int:
        """The bytes of the peer that carried no data; see MOST_EMPTY_BYTES."""
        return self._empty_bytes - self._incoming.pending

    def forget_empty_bytes(self) -> None:
        """Begin to count again: these were the handshake."""
        self._empty_bytes = self._incoming.pending

    @property
    def has_unread(self) -> bool:
        """Whether bytes of the peer wait for `read`."""
        return self._incoming.pending > 0 or self.tls.pending() > 0

    @property
    def has_unsent(self) -> bool:
        """Whether `take_unsent` has bytes."""
        return self._outgoing.pending > 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes of the peer, BUFFER_SIZE at most."""
        self._incoming.write(data)
        self._empty_bytes += len(data)

    def read(self) -> bytes:
        """Return the next plain bytes, none if the peer has closed the session.

        Raises SSLWantReadError if a TLS record is not complete, SSLError if the peer breaks TLS.
        """
        data = self.tls.read(BUFFER_SIZE)
        self._empty_bytes = max(0, self._empty_bytes - len(data) - RECORD_EXTRA)
        return data

    def seal(self, data: bytes) -> bytes:
        """Return the bytes for the peer that carry `data`. Raises SSLError if the session is broken."""
        if len(data) <= BUFFER_SIZE:
            self.tls.write(data)
            return self._outgoing.read()
        sealed: list[bytes] = []
        view = memoryview(data)
        for begin in range(0, len(data), BUFFER_SIZE):
            self.tls.write(view[begin : begin + BUFFER_SIZE])
            sealed.append(self._outgoing.read())
        return b"".join(sealed)

    def take_unsent(self) -> bytes:
        """Return what TLS itself has for the peer, such as its handshake."""
        return self._outgoing.read()

    def is_closed_after(self, data: bytes | memoryview) -> bool:
        """Take bytes of the peer that nobody needs any more. Return whether the peer has closed the session."""
        if self._is_broken:
            return False  # nothing would take the bytes from the buffer
        self.feed(data)
        try:
            while self.read():
                pass
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLWantReadError:
            self._is_broken = self.empty_bytes > MOST_EMPTY_BYTES
        except ssl.SSLError:
            self._is_broken = True
        else:
            return True
        self._outgoing.read()  # answers of TLS itself, which nobody sends any more
        return False

    def close(self) -> bytes:
        """Return the close_notify for the peer (RFC 8446 section 6.1), and what else it has not got."""
        with suppress(ssl.SSLError):  # it waits for the peer's close_notify, or the peer has sent something else
            self.tls.unwrap()
        return self._outgoing.read()
