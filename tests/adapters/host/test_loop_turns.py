"""The gauge of the event loop: it notes a turn that takes long, but not a wait, and forgets after a minute."""

import asyncio
import time

from pskkey.adapters.host.loop_turns import WINDOW, LoopTurns


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


def test_work_is_noted_and_waiting_is_not() -> None:
    turns = LoopTurns()

    async def wait_and_work() -> tuple[float, float]:
        await asyncio.sleep(0.2)
        turns.forget()
        await asyncio.sleep(0.2)
        waited = turns.longest()
        time.sleep(0.3)  # noqa: ASYNC251  the work that delays the other tasks
        await asyncio.sleep(0)
        return waited, turns.longest()

    waited, worked = asyncio.run(wait_and_work(), loop_factory=turns.new_event_loop)
    assert waited < 0.3 <= worked


def test_longest_turn_of_the_last_minute_is_returned() -> None:
    clock = Clock()
    turns = LoopTurns(clock)
    assert turns.longest() == 0.0
    for length in (0.1, 0.5, 0.2):
        turns.note(length)
    assert turns.longest() == 0.5
    clock.now += WINDOW - 1
    turns.note(0.3)
    assert turns.longest() == 0.5
    clock.now += 1
    assert turns.longest() == 0.3
    clock.now += 10 * WINDOW
    assert turns.longest() == 0.0
    turns.note(0.1)
    assert turns.longest() == 0.1


def test_forget_removes_the_earlier_turns() -> None:
    turns = LoopTurns(Clock())
    turns.note(5.0)
    turns.forget()
    assert turns.longest() == 0.0
    turns.note(0.1)
    assert turns.longest() == 0.1
