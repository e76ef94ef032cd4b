"""One peer of `mcastpeer`: sends its status by a clock that does not drift, and counts what it decodes."""

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from pskkey.mcast import CannotSend, Message


class SequenceGaps:
    """Counts the loss of one sender under one epoch: the sequence numbers below the highest seen that never came.

    `first` is the number that the sender began with; None takes the first that is seen.
    """

    __slots__ = ("_first", "_highest", "_received")

    def __init__(self, first: int | None) -> None:
        self._first = first
        self._highest = -1
        self._received = 0

    def count(self, sequence: int) -> None:
        """Take one sequence number that was received; none comes twice."""
        self._received += 1
        self._highest = max(self._highest, sequence)
        # A record that overtook others may come first.
        self._first = sequence if self._first is None else min(self._first, sequence)

    @property
    def received(self) -> int:
        """The number of records that were received."""
        return self._received

    @property
    def lost(self) -> int:
        """The number of records that are missing. A late one is no longer missing when it comes."""
        return 0 if self._first is None else self._highest - self._first + 1 - self._received


class Totals(NamedTuple):
    """The totals of a peer so far."""

    sent: int
    received: int
    lost: int


class Peer:
    """One member of the group under test.

    `number` names it in the output. `send` sends a plaintext of `size` bytes to the group, returns whether the network
    took it, and may raise CannotSend. `first_sequence` is the number that every sender begins with, if that is known
    (see `SequenceGaps`).
    """

    def __init__(self, number: int, send: Callable[[bytes], bool], size: int, first_sequence: int | None) -> None:
        self.number = number
        self.sent = 0
        self.received = 0
        self.elapsed = 0.0
        self.failed = False
        self._send = send
        self._size = size
        self._first_sequence = first_sequence
        self._gaps: dict[tuple[int, int], SequenceGaps] = {}

    def count(self, message: Message) -> None:
        """Count a message of any sender that this peer has decoded."""
        self.received += 1
        gaps = self._gaps.get((message.sender_id, message.epoch))
        if gaps is None:
            gaps = self._gaps[message.sender_id, message.epoch] = SequenceGaps(self._first_sequence)
        gaps.count(message.sequence)

    @property
    def totals(self) -> Totals:
        """Sent, received and lost, over all senders and epochs."""
        return Totals(self.sent, self.received, sum(gaps.lost for gaps in self._gaps.values()))

    def by_sender(self) -> dict[int, dict[str, int]]:
        """Return the received and the lost records of each sender id."""
        senders: dict[int, dict[str, int]] = {}
        for (sender_id, _), gaps in sorted(self._gaps.items()):
            counts = senders.setdefault(sender_id, {"received": 0, "lost": 0})
            counts["received"] += gaps.received
            counts["lost"] += gaps.lost
        return senders

    async def send_statuses(self, rate: float, begin: float, duration: float | None) -> None:
        """Send `rate` statuses a second from the loop's time `begin` on, for `duration` seconds or until cancelled.

        Each status is due at its own time of an absolute schedule, so that lateness does not add up. After a stall, the
        overdue ones are sent at once. A status that may not be sent (no key at this moment) is skipped.
        """
        loop = asyncio.get_running_loop()
        end = math.inf if duration is None else begin + duration
        tick = 0
        try:
            while (due := begin + tick / rate) < end:
                await asyncio.sleep(due - loop.time())
                self._send_status(tick)
                tick += 1
            await asyncio.sleep(end - loop.time())
        finally:
            self.elapsed = max(0.0, loop.time() - begin)

    def _send_status(self, tick: int) -> None:
        status = b"peer %d status %d " % (self.number, tick)
        try:
            taken = self._send(status[: self._size].ljust(self._size, b"."))
        except CannotSend:
            return
        if taken:
            self.sent += 1
        else:
            self.failed = True
