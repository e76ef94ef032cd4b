"""One authenticated TLS connection, the same class for client and server: bytes in, bytes out, and its end.

It ends once, with a reason for the operator. `Owner.lost` follows each `Owner.opened` exactly once. Nothing is received
or written after the end was decided.
"""

import asyncio
import ssl
from typing import Protocol, cast

from pskkey.config.psk import PskFile
from pskkey.errors import BadPacket, NoCommonLevel
from pskkey.model import ErrorMessage
from pskkey.wire.packet import encode

WRITE_LIMIT = 1_048_576
"""Bytes that may wait for a peer when another message is sent, besides 64 KiB in asyncio's transport and the kernel's
buffer. The check comes before a message and not after it, because one GROUP of a large group is as long.
"""

CLOSE_TIMEOUT = 1.0
"""Seconds in which a closed connection may still deliver its last bytes. Then it is aborted."""


class Owner(Protocol):
    """The owner of a connection, which is called at its start, its data and its end."""

    def opened(self, connection: "TlsConnection") -> None:
        """Take the connection after its handshake."""

    def received(self, connection: "TlsConnection", data: bytes) -> None:
        """Take bytes. A BadPacket that is raised here ends the connection."""

    def lost(self, connection: "TlsConnection", reason: str) -> None:
        """Note the end of the connection. `reason` is the end of a sentence about the peer."""


class TlsConnection(asyncio.Protocol):
    """A TLS connection with the peer at `address` and `port`. It is made before the handshake and opened after it."""

    def __init__(self, owner: Owner, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.offered_identities: list[str] = []
        """The PSK identities that a client offered in the handshake, known or not. Then the last is the client's."""
        self.accepted_psks: PskFile | None = None
        """On a server: the PSK file at the beginning of the handshake."""
        self.last_heard = 0.0
        """The time of the peer's last bytes, in seconds of the event loop's clock."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reason: str | None = None
        self._broke_protocol = False
        self._stalled = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._silence_limit: float | None = None
        self._silence_timer: asyncio.TimerHandle | None = None

    @property
    def identity(self) -> str | None:
        """The PSK identity of the client, proved when the connection is open. None at the client itself."""
        return self.offered_identities[-1] if self.offered_identities else None

    @property
    def ending(self) -> bool:
        """Whether the end is decided."""
        return self._reason is not None

    @property
    def broke_protocol(self) -> bool:
        """Whether it ended because of a BadPacket."""
        return self._broke_protocol

    @property
    def stalled(self) -> bool:
        """Whether it ended because the peer did not read."""
        return self._stalled

    @property
    def silence_limited(self) -> bool:
        """Whether the connection ends when the peer is silent for too long; see `limit_silence`."""
        return self._silence_limit is not None

    @property
    def tls(self) -> ssl.SSLObject:
        """The TLS session of an open connection."""
        if self._transport is None:
            raise RuntimeError("a connection has no TLS session before it is open")
        return cast(ssl.SSLObject, self._transport.get_extra_info("ssl_object"))

    def write(self, data: bytes) -> None:
        """Send bytes, unless the end is decided. The connection ends if the peer leaves too much unread."""
        if self._transport is None or self.ending:
            return
        if self._transport.get_write_buffer_size() > WRITE_LIMIT:
            self._stalled = True
            self.abort("it does not read what it is sent")
            return
        self._transport.write(data)

    def pause_reading(self) -> None:
        """Take no more bytes until `resume_reading`. asyncio's TLS buffers 256 KiB of them, and the kernel the rest."""
        if self._transport is not None and not self.ending:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Continue after `pause_reading`."""
        if self._transport is not None and not self.ending:
            self._transport.resume_reading()

    def refuse(self, error: BadPacket) -> None:
        """End the connection with an ERROR, because the peer broke the protocol."""
        code = "version" if isinstance(error, NoCommonLevel) else "bad_packet"
        self.write(encode(ErrorMessage(code, str(error))))
        self._broke_protocol = True
        self.close(f"it broke the protocol: {error}")

    def limit_silence(self, seconds: float | None) -> None:
        """End the connection when the peer is silent for `seconds`, from now on. None: do not end it for silence."""
        self._silence_limit = seconds
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
        if seconds is not None and not self.ending:
            self._silence_timer = self._loop.call_later(seconds, self._check_silence)

    def close(self, reason: str) -> None:
        """End the connection when all written bytes are delivered, or after `CLOSE_TIMEOUT`."""
        if self._transport is None or self.ending:
            return
        self._reason = reason
        self._transport.close()
        # asyncio bounds the time of the TLS shutdown, but not of the last bytes to a peer that has stopped reading.
        self._close_timer = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def abort(self, reason: str) -> None:
        """End the connection at once. Bytes that wait are lost."""
        if self._transport is None or self.ending:
            return
        self._reason = reason
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle the end of the handshake (asyncio)."""
        self._transport = cast(asyncio.Transport, transport)
        self.last_heard = self._loop.time()
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes (asyncio)."""
        if self.ending:
            return
        self.last_heard = self._loop.time()
        try:
            self._owner.received(self, data)
        except BadPacket as error:
            self.refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the closed socket (asyncio)."""
        for timer in (self._close_timer, self._silence_timer):
            if timer is not None:
                timer.cancel()
        if self._reason is None:
            self._reason = "it closed the connection" if exc is None else f"the connection broke ({_cause(exc)})"
        self._transport = None
        self._owner.lost(self, self._reason)

    def _check_silence(self) -> None:
        limit = self._silence_limit
        if limit is None or self.ending:
            return
        remaining = self.last_heard + limit - self._loop.time()
        if remaining > 0:
            self._silence_timer = self._loop.call_later(remaining, self._check_silence)
        else:
            self.close(f"it sent nothing for {limit:g} s")


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
