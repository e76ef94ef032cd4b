"""The input of one session, message by message: in turn with the other sessions, and no faster than its rates allow.

A message is decoded when it is its turn, so that no read costs more than one of them. What is left waits undecoded, and
meanwhile the connection is not read: the kernel holds the peer back. A session that floods waits for itself only.
When the connection is over, its last words are taken in turn like all others, as far as its rates allow them at once.
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
"""Tokens that a message takes, where not 1. To these the answer is a whole group, or they change it."""


class Source(Protocol):
    """A connection that can be left unread."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class PacedInput:
    """The input of one session.

    Each message takes tokens from all `buckets` and goes to `take`. `refuse` gets the BadPacket that ends the input.
    """

    def __init__(
        self,
        reader: PacketReader,
        source: Source,
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
        self._under_way = False
        """Whether a step was offered, or is to be when the timer rings."""
        self._has_tokens = False
        self._held = False
        self._paused = False
        self._closed = False
        self._finished: Callable[[], None] | None = None
        """What `finish` was given, once the source is at its end."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_message(self) -> bool:
        """Whether a message has come whole that was not taken yet."""
        return self._reader.ready

    def feed(self, data: bytes) -> None:
        """Take bytes in the order in which they came."""
        if self._closed:
            return
        self._reader.add(data)
        self._proceed()

    def hold(self) -> None:
        """Read nothing and take no message until `release`."""
        self._held = True
        self._read_or_not()

    def release(self) -> None:
        """Go on after `hold`."""
        self._held = False
        self._proceed()

    def finish(self, finished: Callable[[], None]) -> None:
        """The source is at its end: take what is left of its last words in turn, and call `finished` after them.

        A message that would have to wait for tokens is given up, and so is every message of an input that is closed
        already. If the owner closes the input before its last words were taken, `finished` is not called.
        """
        if self._closed or self._timer is not None or not self._reader.ready:
            self.close()
            finished()
            return
        self._finished = finished
        if not self._under_way:
            self._under_way = True
            self._turns.offer(self._step)

    def close(self) -> None:
        """Take nothing more. The source is left as it is."""
        self._closed = True
        self._finished = None
        if self._timer is not None:
            self._timer.cancel()

    def _proceed(self) -> None:
        if not self._under_way and not self._closed:
            self._under_way = True
            self._turns.offer(self._step)
        self._read_or_not()

    def _read_or_not(self) -> None:
        pause = self._held or self._under_way
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
            self._rest()
            return False
        if not self._has_tokens:
            self._has_tokens = True
            wait = self._spend(1.0)
            if wait > 0:
                if self._finished is None:
                    self._timer = self._loop.call_later(wait, self._go_on)
                else:
                    self._rest()
                return False
        self._has_tokens = False
        self._take_next()
        if self._reader.ready and not self._closed:
            return True
        self._rest()
        return False

    def _go_on(self) -> None:
        self._timer = None
        self._turns.offer(self._step)

    def _rest(self) -> None:
        """No step is under way any more: read on, or say that the last words were taken."""
        self._under_way = False
        finished = self._finished
        if finished is None:
            self._read_or_not()
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
                self._spend(price - 1.0)  # what it costs is known only now; the next message waits for it
            self._take(message)

    def _spend(self, tokens: float) -> float:
        now = self._loop.time()
        return max([bucket.reserve(now, tokens) for bucket in self._buckets], default=0.0)
