"""All that had arrived at a socket is read before the observer of the reading is called."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pskkey.adapters.fair_turns import TURN_BUDGET, FairTurns
from pskkey.adapters.reading import DATAGRAMS_WITHIN, Reading


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


async def wait_until_done(reading: Reading, order: list[str]) -> None:
    done = asyncio.Event()

    def note() -> None:
        order.append("done")
        done.set()

    reading.when_done(note)
    async with asyncio.timeout(10):
        await done.wait()


async def test_what_has_arrived_is_read_first(pair: tuple[socket.socket, socket.socket]) -> None:
    order: list[str] = []
    turns = FairTurns()

    def step() -> bool:
        order.append("read")
        return False

    def read() -> None:
        pair[0].recv(100)
        turns.offer(step)

    asyncio.get_running_loop().add_reader(pair[0], read)
    pair[1].send(b"x")
    await wait_until_done(Reading(turns, lambda: False), order)
    asyncio.get_running_loop().remove_reader(pair[0])
    assert order == ["read", "done"]


async def test_steps_that_wait_are_done_first() -> None:
    order: list[str] = []
    turns, clock = FairTurns(), asyncio.get_running_loop().time

    def offer(number: int) -> None:
        def step() -> bool:
            until = clock() + 2 * TURN_BUDGET
            while clock() < until:
                pass
            order.append(str(number))
            return False

        turns.offer(step)

    for number in range(5):
        offer(number)
    assert order == ["0"], "a turn has time for one of them"
    await wait_until_done(Reading(turns, lambda: False), order)
    assert order == ["0", "1", "2", "3", "4", "done"]


async def test_datagrams_that_a_turn_has_left_are_read_first() -> None:
    left = [True, True, True]
    await wait_until_done(Reading(FairTurns(), lambda: bool(left) and left.pop()), [])
    assert not left


async def test_flood_of_datagrams_delays_it_by_a_second_at_most() -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    await wait_until_done(Reading(FairTurns(), lambda: True), [])
    assert clock() >= began + DATAGRAMS_WITHIN
