"""One connection to the control socket: Varlink calls in, replies out, in order.

A call is decoded and answered in turn with the other connections, and no faster than the rates of its user allow.
While calls wait, the connection is not read.
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
"""Calls that may wait on a connection that follows the status. They are never answered."""

CALL_TIME: Final = 0.001
"""Seconds of processor time that a call has for one token. Each further CALL_TIME costs another token. A status takes
0.2 ms in a group of ten, and 20 ms in a group of 1,000."""

_log = logging.getLogger("pskkey.control_socket")


class CallHandler(Protocol):
    """The service behind a connection."""

    def admit(self, connection: "ControlConnection", peer: PeerCredentials) -> Sequence[TokenBucket] | None:
        """Return the buckets for the calls of a new connection; None: there is no room for it."""

    def answer_call(self, connection: "ControlConnection", peer: PeerCredentials, call: Call) -> Reply:
        """Return the reply to a call.

        After a reply with `continues` the connection takes `connection.update` and no further calls.
        """

    def report_bad_packet(self, peer: PeerCredentials, error: BadPacket) -> None:
        """Report that a caller broke the protocol. The connection closes itself."""

    def forget(self, connection: "ControlConnection") -> None:
        """Forget a connection that is closed."""


class ControlConnection(asyncio.BufferedProtocol):
    """Answers one call at a time, and none while its caller does not read."""

    _transport: asyncio.Transport
    _peer: PeerCredentials

    def __init__(self, handler: CallHandler, turns: FairTurns) -> None:
        self._handler = handler
        self._turns = turns
        self._buckets: Sequence[TokenBucket] = ()
        self._buffer = bytearray(READ_SIZE)
        self._reader = VarlinkReader()
        self._calls: deque[bytes] = deque()
        self._step_pending = False
        """Whether a step was offered, or will be when the timer expires."""
        self._has_token = False
        self._timer: asyncio.TimerHandle | None = None
        self._following = False
        self._writable = True
        self._paused = False
        self._newest: bytes | None = None
        """The next reply to a follower."""
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        try:
            self._peer = PeerCredentials.of(transport.get_extra_info("socket"))
        except OSError as error:
            _log.warning("the credentials of a caller cannot be read: %s", error.strerror)
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
        self._schedule()

    def eof_received(self) -> bool:
        # A caller may close its side for writing and still read the replies to its calls.
        self._ended = True
        self._schedule()
        return not self._following

    def pause_writing(self) -> None:
        self._writable = False
        self._update_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._calls.clear()
        self._newest = None
        if self._timer is not None:
            self._timer.cancel()
        self._handler.forget(self)

    def update(self, encoded: bytes) -> None:
        """Send one more reply to a follower. Of several replies that cannot be sent yet, only the newest is sent."""
        self._newest = encoded
        self._schedule()

    def close(self) -> None:
        """Close without waiting for a caller that does not read."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _schedule(self) -> None:
        if not self._step_pending and not self._transport.is_closing():
            self._step_pending = True
            self._turns.offer(self._step)
        self._update_reading()

    def _update_reading(self) -> None:
        # A follower is read also while calls wait, so that its end is noticed.
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
        self._step_pending = False
        self._update_reading()
        if self._ended and not self._following and not self._calls:
            self._transport.close()
        return False

    def _wait_for_token(self) -> float:
        """Return the seconds until the next call may be answered. Each call waits at most once."""
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
            reply: Reply = self._handler.answer_call(self, self._peer, call)
        except Exception:
            self._transport.abort()  # rather than leave its caller without an answer
            raise
        self._following = reply.continues
        if not call.oneway and not self._transport.is_closing():
            self._transport.write(encode_reply(reply))

    def _refuse(self, error: BadPacket) -> None:
        self._calls.clear()
        self._handler.report_bad_packet(self._peer, error)
        self._transport.abort()
