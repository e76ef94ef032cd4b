"""One connection to the control socket: Varlink calls in, replies out, in order.

A call is decoded and answered in turn with the other connections, and no faster than the rates of its user allow.
Meanwhile the connection is not read.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol, cast

from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.local.local_access import PeerCredentials
from pskkey.adapters.token_bucket import TokenBucket
from pskkey.errors import BadPacket
from pskkey.wire.varlink import Call, Reply, VarlinkReader, decode_call_untrusted, encode_reply

READ_SIZE: Final = 4096
"""Bytes that are read from a caller at a time."""
MAX_WAITING: Final = 512
"""Calls that may wait on a connection that follows the status, and so takes none of them."""

CALL_TIME: Final = 0.001
"""Seconds of processor time that a call has for its token. Each further one costs a token more: a status costs 0.2 ms
in a group of ten, and 20 ms in one of 1,000."""

_log = logging.getLogger("pskkey.control_socket")


class CallHandler(Protocol):
    """What a connection asks of the service behind it."""

    def admit(self, connection: "ControlConnection", peer: PeerCredentials) -> Sequence[TokenBucket] | None:
        """Return what the calls of a new connection take a token from; None: there is no room for it."""

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

    def __init__(self, handler: CallHandler, turns: FairTurns) -> None:
        self._handler = handler
        self._turns = turns
        self._buckets: Sequence[TokenBucket] = ()
        self._buffer = bytearray(READ_SIZE)
        self._reader = VarlinkReader()
        self._calls: deque[bytes] = deque()
        self._under_way = False
        """Whether a step was offered, or is to be when the timer rings."""
        self._has_token = False
        self._timer: asyncio.TimerHandle | None = None
        self._following = False
        self._writable = True
        self._paused = False
        self._newest: bytes | None = None
        """The reply that a follower is to get next."""
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
        buckets = self._handler.admit(self, self._peer)
        if buckets is None:
            self._transport.abort()
        else:
            self._buckets = buckets

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        try:
            self._calls += self._reader.receive_untrusted(bytes(self._buffer[:nbytes]))
            if self._following and len(self._calls) > MAX_WAITING:
                raise BadPacket(f"more than {MAX_WAITING} calls come after one that is still answered")  # noqa: TRY301
        except BadPacket as error:
            self._refuse(error)
            return
        self._proceed()

    def eof_received(self) -> bool:
        # A caller may close its side for writing and still read the replies to what it has called.
        self._ended = True
        self._proceed()
        return not self._following

    def pause_writing(self) -> None:
        self._writable = False
        self._read_or_not()

    def resume_writing(self) -> None:
        self._writable = True
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._calls.clear()
        self._newest = None
        if self._timer is not None:
            self._timer.cancel()
        self._handler.lost(self)

    def update(self, encoded: bytes) -> None:
        """Send one more reply to the call that follows; of several that cannot be sent yet, only the newest."""
        self._newest = encoded
        self._proceed()

    def close(self) -> None:
        """Close without waiting for a caller that does not read."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _proceed(self) -> None:
        if not self._under_way and not self._transport.is_closing():
            self._under_way = True
            self._turns.offer(self._step)
        self._read_or_not()

    def _read_or_not(self) -> None:
        # A follower is read all the same, so that its end is noticed.
        pause = not self._writable or (bool(self._calls) and not self._following)
        if self._transport.is_closing() or pause == self._paused:
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _step(self) -> bool:
        if self._writable and not self._transport.is_closing():
            if self._newest is not None:
                reply, self._newest = self._newest, None
                self._transport.write(reply)
            elif self._calls and not self._following:
                if (wait := self._wait_for_token()) > 0:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._turns.offer, self._step)
                    return False
                began = time.thread_time()
                self._answer(self._calls.popleft())
                self._spend((time.thread_time() - began) / CALL_TIME - 1.0)
        if self._writable and not self._transport.is_closing() and self._calls and not self._following:
            return True
        self._under_way = False
        self._read_or_not()
        if self._ended and not self._following and not self._calls:
            self._transport.close()
        return False

    def _wait_for_token(self) -> float:
        """Return the seconds until the next call may be taken; each one is waited for once."""
        if self._has_token:
            self._has_token = False
            return 0.0
        wait = self._spend(1.0)
        self._has_token = wait > 0
        return wait

    def _spend(self, tokens: float) -> float:
        now = asyncio.get_running_loop().time()
        return max([bucket.reserve(now, tokens) for bucket in self._buckets if tokens > 0], default=0.0)

    def _answer(self, message: bytes) -> None:
        try:
            call: Call = decode_call_untrusted(message)
        except BadPacket as error:
            self._refuse(error)
            return
        try:
            reply: Reply = self._handler.called(self, self._peer, call)
        except Exception:
            self._transport.abort()  # rather than leave its caller without an answer
            raise
        self._following = reply.continues
        if not call.oneway and not self._transport.is_closing():
            self._transport.write(encode_reply(reply))

    def _refuse(self, error: BadPacket) -> None:
        self._calls.clear()
        self._handler.broken(self._peer, error)
        self._transport.abort()
