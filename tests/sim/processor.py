"""The processor of a device: it does the work of one process in order, one piece after the other.

A piece of work has a cost in seconds. It takes effect when its cost is paid: then the node handles the event, and each
frame that it sends costs more. So a node that gets a hundred handshakes at once is busy for a hundred handshakes, and
its heartbeats, its answers and its timers come late. The kernel is not the process: while the process is busy, the
kernel opens TCP connections and buffers what arrives.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.sim.schedule import Schedule

type Work = Callable[[], object]


@dataclass(frozen=True)
class Costs:
    """The processor time of one device, in seconds for each piece of work. The defaults cost nothing."""

    handshake: float = 0.0
    """A TLS handshake, at each end."""
    packet: float = 0.0
    """A packet, received or sent: a datagram of mDNS, or a frame."""
    event: float = 0.0
    """An event that the core handles."""
    kibibyte: float = 0.0
    """Each KiB of a message, received or sent, beside its frames."""
    handshakes_take_turns: bool = False
    """Whether all other work that has arrived is done between two handshakes, as the key server of the daemon does."""

    def of_message(self, size: int, frames: int) -> float:
        """Return the seconds for a message of `size` bytes in so many frames, at one end."""
        return frames * self.packet + size / 1024 * self.kibibyte


class Processor:
    """The work of one process. `received`: the packets that its device has received, by any process."""

    def __init__(self, schedule: Schedule, costs: Costs) -> None:
        self._schedule = schedule
        self.costs = costs
        self.received = 0
        self.is_running = False
        """Whether a piece of work takes effect at this moment."""
        self._waiting: deque[tuple[float, Work | None]] = deque()
        self._handshakes: deque[tuple[float, Work | None]] = deque()
        """The handshakes that wait, if they take turns with other work."""
        self._present: tuple[float, Work] | None = None
        self._first = 0
        """Pieces of other work that come before the next handshake, if handshakes take turns with it."""
        self._counts_first = False
        self._free_at = 0.0
        self._is_paused = False
        self._generation = 0

    @property
    def free_at(self) -> float:
        """When the work is done that has begun, in virtual time."""
        return max(self._free_at, self._schedule.now)

    def add(self, cost: float, work: Work | None = None) -> None:
        """Add a piece of work behind all other work. None: it costs time and has no effect."""
        self._add(self._waiting, cost, work)

    def add_next(self, cost: float, work: Work) -> None:
        """Add a piece of work before all other work that waits."""
        self._waiting.appendleft((cost, work))
        self._begin_if_idle()

    def add_handshake(self, work: Work) -> None:
        """Add a handshake: behind all other work, or among the handshakes if those take turns."""
        queue = self._handshakes if self.costs.handshakes_take_turns else self._waiting
        self._add(queue, self.costs.handshake, work)

    def receive(self, work: Work | None, size: int = 0, frames: int = 1) -> None:
        """Take a message of `size` bytes in so many packets from the kernel, and do `work` with it."""
        self.received += frames
        self._add(self._waiting, self.costs.of_message(size, frames), work)

    def spend(self, seconds: float) -> float:
        """Make the present work so much longer. Return when it is done so far."""
        self._free_at = self.free_at + seconds
        return self._free_at

    def pause(self) -> None:
        """Stop working. The present piece begins again later."""
        self._is_paused = True
        self._generation += 1
        if self._present is not None:
            self._waiting.appendleft(self._present)
            self._present = None

    def wake(self) -> None:
        """Go on after a pause."""
        self._is_paused = False
        self._free_at = self._schedule.now
        self._begin_next()

    def end_process(self) -> None:
        """Forget all work: the process has ended."""
        self._generation += 1
        self._waiting.clear()
        self._handshakes.clear()
        self._present = None
        self._is_paused = False
        self._free_at = self._schedule.now

    def _add(self, queue: deque[tuple[float, Work | None]], cost: float, work: Work | None) -> None:
        queue.append((cost, work))
        self._begin_if_idle()

    def _begin_if_idle(self) -> None:
        if self._present is None and not self._is_paused and not self.is_running:
            self._begin_next()

    def _begin_next(self) -> None:
        while (piece := self._take_next()) is not None:
            cost, work = piece
            self.spend(cost)
            if work is not None:
                self._present = (cost, work)
                self._schedule.at(self._free_at, partial(self._finish, self._generation))
                return

    def _take_next(self) -> tuple[float, Work | None] | None:
        if self._counts_first:
            self._first, self._counts_first = len(self._waiting), False
        if self._handshakes and (self._first == 0 or not self._waiting):
            self._counts_first = True
            return self._handshakes.popleft()
        self._first = max(0, self._first - 1)
        return self._waiting.popleft() if self._waiting else None

    def _finish(self, generation: int) -> None:
        if generation != self._generation or self._present is None:
            return
        _, work = self._present
        self._present = None
        self.is_running = True
        try:
            work()
        finally:
            self.is_running = False
        if generation == self._generation:
            self._begin_next()
