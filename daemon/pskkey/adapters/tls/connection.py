"""One TLS connection, the same class for client and server: its handshake, bytes in, bytes out, and its end.

It ends once, with a reason for the operator. `Owner.opened` or `Owner.failed` follows the handshake, and `Owner.lost`
follows each `Owner.opened` exactly once. Nothing is received or written after the end was decided.

The TLS of asyncio is not used: it keeps a buffer of 256 KiB for each connection, needs a context for each of them to
know its identity, and costs as much as the cryptography of a handshake.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Protocol, cast

from pskkey.adapters.tls.server_context import Offer
from pskkey.adapters.tls.tcp_errors import explain_broken
from pskkey.adapters.tls.tls_session import BUFFER_SIZE, MOST_EMPTY_BYTES, Handshake, TlsSession
from pskkey.errors import BadPacket, HandshakeError, NoCommonLevel
from pskkey.model import ErrorMessage
from pskkey.wire.packet import encode

WRITE_LIMIT = 1_048_576
"""Bytes that may wait for a peer when another message is sent, besides those in the kernel's buffer. The check comes
before a message and not after it, because one GROUP of a large group is as long.
"""

CLOSE_TIMEOUT = 1.0
"""Seconds in which a closed connection may still deliver its last bytes. Then it is aborted."""


class Owner(Protocol):
    """The owner of an open connection, which is called at its start, its data and its end."""

    def opened(self, connection: "TlsConnection") -> None:
        """Take the connection after its handshake."""

    def received(self, connection: "TlsConnection", data: bytes) -> None:
        """Take bytes. A BadPacket that is raised here ends the connection."""

    def lost(self, connection: "TlsConnection", reason: str) -> None:
        """Note the end of the connection. `reason` is the end of a sentence about the peer."""


class HandshakeOwner(Owner, Protocol):
    """The owner of a connection from its handshake on."""

    def failed(self, connection: "TlsConnection", error: Exception) -> None:
        """Note that the handshake failed, or ended early (OSError, HandshakeError). The connection is closed."""


class TlsConnection(asyncio.BufferedProtocol):
    """A TLS connection with the peer at `address` and `port`. It begins with `shake_hands`."""

    def __init__(self, owner: HandshakeOwner, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.offer: Offer | None = None
        """On a server: what the client offered in the handshake."""
        self.last_heard = 0.0
        """The time of the peer's last bytes, in seconds of the event loop's clock."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handshake: Handshake | None = None
        """The handshake in progress. None before and after it."""
        self._session: TlsSession | None = None
        self._buffer = bytearray()
        self._unsent: list[bytes] = []
        """The messages that were written in this turn of the event loop."""
        self._unsent_size = 0
        self._opened = False
        self._paused = False
        self._suspended = False
        """Whether the kernel holds the peer back. It does when bytes come while reading is paused."""
        self._late: OSError | None = None
        self._reason: str | None = None
        self._broke_protocol = False
        self._stalled = False
        self._end_timer: asyncio.TimerHandle | None = None
        """Ends the handshake, and later the time of the last bytes."""
        self._silence_limit: float | None = None
        self._silence_timer: asyncio.TimerHandle | None = None

    @property
    def identity(self) -> str | None:
        """The PSK identity of the client, proved when the connection is open. None at the client itself."""
        return None if self.offer is None else self.offer.identity

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
        """The TLS session."""
        if self._session is None:
            raise RuntimeError("a connection has no TLS session before its handshake")
        return self._session.tls

    # --- handshake ------------------------------------------------------------------------------------------------

    def shake_hands(
        self, transport: asyncio.Transport, handshake: Handshake, timeout: float | None = None, first: bytes = b""
    ) -> None:
        """Begin the handshake on a connected transport, which has this protocol already.

        It must end within `timeout` seconds, if given. `first` are bytes of the peer that were read already.
        """
        self._transport = transport
        self._handshake = handshake
        session = self._session = TlsSession(handshake)
        if timeout is not None:
            self._end_timer = self._loop.call_later(timeout, self.end_handshake)
        if first:
            session.feed(first)
        self._go_on(handshake, session)

    def end_handshake(self) -> None:
        """End a handshake that takes too long.

        Bytes that the kernel has already are still handled: they may show a wrong key. Else a stranger could hide
        wrong keys by the time at which he sends them.
        """
        if self._handshake is None or self._transport is None:
            return
        self._late = TimeoutError()
        with suppress(OSError):  # the peer has gone, and the event loop finds that too
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def give_up(self) -> None:
        """End a handshake that is of no use any more, without `Owner.failed`."""
        self._cancel_timers()
        self._handshake = None
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self, handshake: Handshake, session: TlsSession) -> None:
        try:
            handshake.go_on(session.tls)
        except ssl.SSLWantReadError:
            self._flush(session)
            return
        except (ssl.SSLError, HandshakeError) as error:
            self._fail(error)
            return
        self._flush(session)
        self._handshake = None
        self._cancel_timers()
        self._opened = True
        session.forget_empty_bytes()
        self.last_heard = self._loop.time()
        self._owner.opened(self)
        self._read(session)

    def _fail(self, error: Exception) -> None:
        self.give_up()
        self._owner.failed(self, error)

    # --- open -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, unless the end is decided. The connection ends if the peer leaves too much unread.

        Messages of one turn of the event loop are sent together. A system call costs more than a small message.
        """
        if self._transport is None or self._reason is not None or not self._opened:
            return
        if self._transport.get_write_buffer_size() + self._unsent_size > WRITE_LIMIT:
            self._stall()
            return
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)
        self._unsent_size += len(data)

    def _send(self) -> None:
        """Send what was written in this turn."""
        data, self._unsent, self._unsent_size = b"".join(self._unsent), [], 0
        if self._transport is None or self._session is None or self._reason is not None or not data:
            return
        try:
            sealed = self._session.seal(data)
        except ssl.SSLError as error:
            self.abort(explain_broken(error))
        else:
            self._transport.write(sealed)

    def pause_reading(self) -> None:
        """Pass on no more bytes until `resume_reading`. The kernel holds them, and here less than two BUFFER_SIZE."""
        self._paused = True

    def resume_reading(self) -> None:
        """Continue after `pause_reading`."""
        self._paused = False
        if self._transport is None or self._reason is not None:
            return
        if self._session is not None and self._session.has_unread:
            self._loop.call_soon(self._read, self._session)  # first what waits here: else ever more would wait
        else:
            self._stop_suspension()

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
        if self._transport is None or self.ending or not self._opened:
            return
        self._begin_end(reason)
        # The peer closes the connection, or the time ends. If we closed it and the peer had sent more, the kernel would
        # reset it, and the peer could lose our last bytes.
        self._stop_suspension()

    def abort(self, reason: str) -> None:
        """End the connection at once. Bytes that wait are lost."""
        if self._transport is None or self.ending:
            return
        self._reason = reason
        self._transport.abort()

    # --- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport (asyncio)."""
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        """Return a buffer for the next bytes (asyncio)."""
        self._buffer = bytearray(BUFFER_SIZE)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle received bytes (asyncio)."""
        received, self._buffer = memoryview(self._buffer)[:nbytes], bytearray()
        session, transport = self._session, self._transport
        if session is None or transport is None:
            return
        if self._reason is not None:
            if session.is_closed_after(received):
                transport.close()
            return
        if (handshake := self._handshake) is not None:
            for piece in handshake.split(received):
                session.feed(piece)
                self._go_on(handshake, session)
                if self._handshake is None:
                    break
            return
        session.feed(received)
        self.last_heard = self._loop.time()
        if not self._paused:
            self._read(session)
        if self._paused and not self._suspended and self._reason is None and session.has_unread:
            self._suspended = True
            transport.pause_reading()

    def eof_received(self) -> None:
        """Handle the end of the peer's bytes; asyncio closes the connection then."""
        if self._handshake is not None:
            self._fail(self._late or ConnectionResetError())
        elif self._opened and not self.ending:
            self._read_rest()
            if not self.ending and self._transport is not None:
                # Without a close_notify, which the peer did not send either. The last written bytes have their time.
                self._send()
                self._reason = "it closed the connection"
                if self._transport.get_write_buffer_size():
                    self._end_timer = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the closed socket (asyncio)."""
        if self._handshake is not None:
            self._fail(self._late or exc or ConnectionResetError())
        try:
            self._read_rest()
        finally:  # also after a defect of the owner, whose exception closed the connection
            self._cancel_timers()
            self._transport = None
            if self._opened:
                if self._reason is None:
                    self._reason = "it closed the connection" if exc is None else explain_broken(exc)
                self._owner.lost(self, self._reason)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _read(self, session: TlsSession) -> None:
        """Pass the received bytes to the owner, a TLS record at a time, until it pauses."""
        received = self._owner.received
        try:
            while not self._paused and self._reason is None and session.has_unread:
                data = session.read()
                if not data:
                    self._begin_end("it closed the connection")
                    if self._transport is not None:
                        self._transport.close()
                    return
                received(self, data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.abort(explain_broken(error))
            return
        except BadPacket as error:
            self.refuse(error)
            return
        if session.empty_bytes > MOST_EMPTY_BYTES:
            self._broke_protocol = True
            self.abort("it broke the protocol: it sends TLS messages without data")
            return
        if session.has_unsent:
            self._flush(session)
        if not self._paused:
            self._stop_suspension()

    def _stop_suspension(self) -> None:
        """Let the kernel take bytes of the peer again."""
        if self._suspended and self._transport is not None:
            self._suspended = False
            self._transport.resume_reading()

    def _read_rest(self) -> None:
        """Pass on the bytes that waited here for `resume_reading`: no more will come."""
        session = self._session
        while session is not None and self._opened and self._reason is None and session.has_unread:
            self._paused = False
            self._read(session)

    def _flush(self, session: TlsSession) -> None:
        """Send what TLS itself has to send."""
        transport = self._transport
        if transport is None or self._reason is not None:
            return
        if transport.get_write_buffer_size() > WRITE_LIMIT:
            self._stall()
        elif session.has_unsent:
            transport.write(session.take_unsent())

    def _stall(self) -> None:
        self._stalled = True
        self.abort("it does not read what it is sent")

    def _begin_end(self, reason: str) -> None:
        """Decide the end, and send what was written, and the close_notify of TLS (RFC 8446 section 6.1)."""
        self._send()
        if self._reason is not None:
            return
        self._reason = reason
        transport, session = self._transport, self._session
        if transport is None or session is None:
            return
        transport.write(session.close())
        self._end_timer = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def _cancel_timers(self) -> None:
        for timer in (self._end_timer, self._silence_timer):
            if timer is not None:
                timer.cancel()
        self._end_timer = None

    def _check_silence(self) -> None:
        limit = self._silence_limit
        if limit is None or self.ending:
            return
        remaining = self.last_heard + limit - self._loop.time()
        if remaining > 0:
            self._silence_timer = self._loop.call_later(remaining, self._check_silence)
        else:
            self.close(f"it sent nothing for {limit:g} s")
