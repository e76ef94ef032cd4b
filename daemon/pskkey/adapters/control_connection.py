"""One connection to the control socket: Varlink calls in, replies out, in order."""

import asyncio
import logging
from collections import deque
from typing import Final, Protocol, cast

from pskkey.adapters.local_access import PeerCredentials
from pskkey.errors import BadPacket
from pskkey.wire.varlink import Call, Reply, VarlinkReader, decode_call_untrusted, encode_reply

READ_SIZE: Final = 4096
MAX_WAITING: Final = 512
"""Calls that may wait for their turn on one connection; more than fit into one read."""

_log = logging.getLogger("pskkey.control_socket")


class CallHandler(Protocol):
    """What a connection asks of the service behind it."""

    def admit(self, connection: "ControlConnection", peer: PeerCredentials) -> bool:
        """Tell whether there is room for a new connection."""

    def called(self, connection: "ControlConnection", peer: PeerCredentials, call: Call) -> Reply:
        """Return the reply to a call.

        After a reply with `continues` the connection takes `connection.update` and no further calls.
        """

    def broken(self, peer: PeerCredentials, error: BadPacket) -> None:
        """Note that a caller broke the protocol; its connection is closed."""

    def lost(self, connection: "ControlConnection") -> None:
        """Note that a connection is gone."""


class ControlConnection(asyncio.BufferedProtocol):
    """Takes one call at a time, and none while its caller does not read."""

    _transport: asyncio.Transport
    _peer: PeerCredentials

    def __init__(self, handler: CallHandler) -> None:
        self._handler = handler
        self._buffer = bytearray(READ_SIZE)
        self._reader = VarlinkReader()
        self._calls: deque[Call] = deque()
        self._following = False
        self._writable = True
        self._newest: Reply | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        try:
            self._peer = PeerCredentials.of(transport.get_extra_info("socket"))
        except OSError as error:
            _log.warning("cannot tell who connects: %s", error.strerror)
            self._transport.abort()
            return
        if not self._handler.admit(self, self._peer):
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        try:
            for message in self._reader.receive_untrusted(bytes(self._buffer[:nbytes])):
                self._calls.append(decode_call_untrusted(message))
            if len(self._calls) > MAX_WAITING:
                raise BadPacket(f"more than {MAX_WAITING} calls wait for the reply to an earlier one")  # noqa: TRY301
        except BadPacket as error:
            self._handler.broken(self._peer, error)
            self._transport.abort()
            return
        self._proceed()

    def eof_received(self) -> bool:
        # A caller may close its side for writing and still read the replies to what it has called.
        self._ended = True
        self._proceed()
        return not self._following

    def pause_writing(self) -> None:
        self._writable = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        reply, self._newest = self._newest, None
        if reply is not None:
            self.update(reply)
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._calls.clear()
        self._newest = None
        self._handler.lost(self)

    def update(self, reply: Reply) -> None:
        """Send one more reply to the call that follows; of several that cannot be sent yet, only the newest."""
        if self._transport.is_closing():
            return
        if self._writable:
            self._transport.write(encode_reply(reply))
        else:
            self._newest = reply

    def close(self) -> None:
        """Close without waiting for a caller that does not read."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _proceed(self) -> None:
        while self._calls and not self._following and self._writable and not self._transport.is_closing():
            call = self._calls.popleft()
            try:
                reply = self._handler.called(self, self._peer, call)
            except Exception:
                self._transport.abort()  # rather than leave its caller without an answer
                raise
            self._following = reply.continues
            if not call.oneway and not self._transport.is_closing():
                self._transport.write(encode_reply(reply))
        if self._ended and not self._following and not self._calls:
            self._transport.close()
