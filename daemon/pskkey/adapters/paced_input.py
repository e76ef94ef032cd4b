"""The input of one session, message by message: in turn with the other sessions, and no faster than its rates allow.

A message is decoded when it is its turn, so that no read costs more than one message. The later messages wait
undecoded. Meanwhile the connection is not read, and the kernel holds the peer back. A session that floods delays only
itself. When the connection is over, its last messages are taken in turn, as far as its rates allow them at once.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.token_bucket import TokenBucket
from pskkey.errors import BadPacket
from pskkey.model import Join, Merge, Message
from pskkey.wire.packet import PacketReader

PRICES: Final[Mapping[type[Message], float]] = {Join: 5.0, Merge: 5.0}
"""Tokens that a message takes, if not 1. These messages change the group, or their answer is a whole group."""


class InputSource(Protocol):
    """A connection whose reading can be paused."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class PacedInput:
    """The input of one session.

    Each message takes tokens from all `buckets` and goes to `take`. `refuse` gets the BadPacket that ends the input.
    """

    def __init__(
        self,
        reader: PacketReader,
        source: InputSource,
        turns: FairTurns,
        buckets: Sequence[TokenBucket],
        take: Callable[[Message], None],
        refuse: Callable[[BadPacket], None],
    ) -> None:
        self._reader = reader
        self._source = source
        self._turns = turns
        self._buckets = buckets
        self._take = take
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self._step_pending = False
        """Whether a step was offered, or will be when the timer expires."""
        self._has_tokens = False
        self._held = False
        self._paused = False
        self._closed = False
        self._finished: Callable[[], None] | None = None
        """The argument of `finish`, once the source is at its end."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_message(self) -> bool:
        """Whether a complete message waits."""
        return self._reader.ready

    def feed(self, data: bytes) -> None:
        """Take bytes in the order in which they came."""
        if self._closed:
            return
        self._reader.add(data)
        self._schedule()

    def hold(self) -> None:
        """Read nothing and take no message until `release`."""
        self._held = True
        self._update_reading()

    def release(self) -> None:
        """Continue after `hold`."""
        self._held = False
        self._schedule()

    def finish(self, finished: Callable[[], None]) -> None:
        """Take the last messages of a source that is at its end, in turn, and then call `finished`.

        A message that would have to wait for tokens is dropped, and so is every message of an input that is closed
        already. If the owner closes the input before its last messages were taken, `finished` is not called.
        """
        if self._closed or self._timer is not None or not self._reader.ready:
            self.close()
            finished()
            return
        self._finished = finished
        if not self._step_pending:
            self._step_pending = True
            self._turns.offer(self._step)

    def close(self) -> None:
        """Take nothing more. The source stays as it is."""
        self._closed = True
        self._finished = None
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        if not self._step_pending and not self._closed:
            self._step_pending = True
            self._turns.offer(self._step)
        self._update_reading()

    def _update_reading(self) -> None:
        pause = self._held or self._step_pending
        if self._closed or pause == self._paused:
            return
        self._paused = pause
        if pause:
            self._source.pause_reading()
        else:
            self._source.resume_reading()

    def _step(self) -> bool:
        held = self._held and self._finished is None
        if self._closed or held or not self._reader.ready:
            self._end_steps()
            return False
        if not self._has_tokens:
            self._has_tokens = True
            wait = self._spend(1.0)
            if wait > 0:
                if self._finished is None:
                    self._timer = self._loop.call_later(wait, self._continue)
                else:
                    self._end_steps()
                return False
        self._has_tokens = False
        self._take_next()
        if self._reader.ready and not self._closed:
            return True
        self._end_steps()
        return False

    def _continue(self) -> None:
        self._timer = None
        self._turns.offer(self._step)

    def _end_steps(self) -> None:
        """Read again, or report that the last messages were taken."""
        self._step_pending = False
        finished = self._finished
        if finished is None:
            self._update_reading()
        else:
            self.close()
            finished()

    def _take_next(self) -> None:
        try:
            message = self._reader.next_untrusted()
        except BadPacket as error:
            self._closed = True
            self._refuse(error)
            return
        if message is not None:
            if (price := PRICES.get(type(message), 1.0)) > 1.0:
                self._spend(price - 1.0)  # its price is known only now; the next message waits for it
            self._take(message)

    def _spend(self, tokens: float) -> float:
        now = self._loop.time()
        return max([bucket.reserve(now, tokens) for bucket in self._buckets], default=0.0)
