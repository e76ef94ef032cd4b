"""Shares the event loop between sessions: they do one step each in rotation, for a bounded time in each turn."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

TURN_BUDGET: Final = 0.005
"""Seconds of each turn of the event loop that the steps may take. A step that has begun is finished."""

type Step = Callable[[], bool]
"""Does a small piece of work and returns whether more of it can be done at once."""


class FairTurns:
    """Does the steps that are offered. `has_room` returns whether the results of a step can be accepted now."""

    def __init__(self, has_room: Callable[[], bool] = lambda: True) -> None:
        self._has_room = has_room
        self._queue: deque[Step] = deque()
        self._spent = 0.0
        """The time that steps took since `_run_turn` last began. Several turns may share one budget: a callback in each
        turn, only to begin a new budget, would cost as much as a message.
        """
        self._next: asyncio.Handle | None = None

    def offer(self, step: Step) -> None:
        """Do a step now, or in a later turn if no time is left or other steps wait. Repeat it while it asks."""
        if self._queue or self._spent >= TURN_BUDGET or not self._has_room():
            self._queue.append(step)
        else:
            self._do(step)
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._run_turn)

    def _run_turn(self) -> None:
        self._next = None
        self._spent = 0.0
        try:
            while self._queue and self._spent < TURN_BUDGET and self._has_room():
                self._do(self._queue.popleft())
        finally:
            self._schedule()

    def _do(self, step: Step) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            if step():
                self._queue.append(step)
        finally:
            self._spent += clock() - began
