"""The input of sessions: one message at a time, fair between sessions, at a rate, and nothing lost or out of order."""

import asyncio
import time
from collections.abc import Callable
from itertools import groupby

import pytest

from pskkey.adapters.fair_turns import TURN_BUDGET, FairTurns
from pskkey.adapters.paced_input import PacedInput
from pskkey.adapters.token_bucket import Rate, TokenBucket
from pskkey.errors import BadPacket
from pskkey.model import Heartbeat, KeyAck, KeyRequest, Message
from pskkey.wire.packet import Channel, PacketReader, Side, encode

PLENTY = Rate(per_second=1e9, burst=1e9)


class Connection:
    """A source whose reading can be paused. It notes whether it is read."""

    def __init__(self) -> None:
        self.is_read = True

    def pause_reading(self) -> None:
        assert self.is_read
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.is_read
        self.is_read = True


class Session:
    """A session's input and the messages that were taken from it."""

    def __init__(self, turns: FairTurns, *rates: Rate, take: Callable[[Message], None] | None = None) -> None:
        self.connection = Connection()
        self.taken: list[Message] = []
        self.errors: list[BadPacket] = []
        self.input = PacedInput(
            PacketReader(Channel.KEYS, Side.SERVER),
            self.connection,
            turns,
            [TokenBucket(rate) for rate in rates or (PLENTY,)],
            take or self.taken.append,
            self.errors.append,
        )


async def turns_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def test_single_message_is_taken_at_once_and_reading_goes_on() -> None:
    session = Session(FairTurns())
    session.input.feed(encode(KeyRequest()))
    assert session.taken == [KeyRequest()]
    assert session.connection.is_read


async def test_messages_that_come_together_are_taken_in_order_while_reading_is_paused() -> None:
    session = Session(FairTurns())
    sent: list[Message] = [KeyAck(epoch) for epoch in range(1, 1000)]
    session.input.feed(b"".join(map(encode, sent)))
    assert len(session.taken) == 1
    assert not session.connection.is_read
    await turns_until(lambda: session.connection.is_read)
    assert session.taken == sent


async def test_sessions_take_turns() -> None:
    order: list[str] = []
    turns = FairTurns()
    sessions = [Session(turns, take=lambda _, name=name: order.append(name)) for name in "abc"]  # type: ignore[misc]
    for session in sessions:
        session.input.feed(encode(Heartbeat()) * 200)
    await turns_until(lambda: len(order) == 600)
    runs = [len(list(run)) for _, run in groupby(order)]
    assert max(runs) <= 2, "no session has two messages taken while another waits, except at the start"


async def test_turn_of_the_loop_lasts_at_most_its_budget_and_one_message() -> None:
    session = Session(FairTurns(), take=lambda _: time.sleep(TURN_BUDGET))
    turns = 0
    session.input.feed(encode(Heartbeat()) * 10)
    while not session.connection.is_read:
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 9


async def test_session_that_floods_is_held_to_its_rate() -> None:
    turns = FairTurns()
    flood, other = Session(turns, Rate(per_second=100.0, burst=5.0)), Session(turns)
    flood.input.feed(encode(Heartbeat()) * 25)
    began = time.monotonic()
    await turns_until(lambda: len(flood.taken) == 5)
    other.input.feed(encode(KeyRequest()))
    assert other.taken == [KeyRequest()], "other sessions do not wait with it"
    await turns_until(lambda: flood.connection.is_read)
    assert len(flood.taken) == 25
    assert time.monotonic() - began > 0.19


async def test_nothing_is_taken_while_it_is_held() -> None:
    session = Session(FairTurns())
    session.input.hold()
    assert not session.connection.is_read
    session.input.feed(encode(KeyRequest()))
    for _ in range(5):
        await asyncio.sleep(0)
    assert session.taken == []
    session.input.release()
    await turns_until(lambda: session.connection.is_read)
    assert session.taken == [KeyRequest()]


async def test_nothing_is_taken_while_there_is_no_room() -> None:
    room = False
    session = Session(FairTurns(lambda: room))
    session.input.feed(encode(KeyRequest()))
    for _ in range(5):
        await asyncio.sleep(0)
    assert session.taken == []
    room = True
    await turns_until(lambda: session.taken == [KeyRequest()])


async def test_messages_before_a_bad_packet_are_taken_first() -> None:
    session = Session(FairTurns())
    session.input.feed(encode(KeyAck(1)) + encode(KeyAck(2)) + b"\x02\x01\x00\x00" + encode(KeyAck(3)))
    await turns_until(lambda: bool(session.errors))
    assert session.taken == [KeyAck(1), KeyAck(2)]
    session.input.feed(encode(KeyAck(4)))
    ended: list[None] = []
    session.input.finish(lambda: ended.append(None))
    assert (len(session.errors), len(ended)) == (1, 1)


class EndedSession(Session):
    """A session whose connection is over. It notes how many messages were taken before its end was reported."""

    def __init__(self, turns: FairTurns, *rates: Rate, take: Callable[[Message], None] | None = None) -> None:
        super().__init__(turns, *rates, take=take)
        self.ended_after: list[int] = []

    def finish(self) -> None:
        self.input.finish(lambda: self.ended_after.append(len(self.taken)))


async def test_end_is_reported_at_once_when_no_message_waits() -> None:
    session = EndedSession(FairTurns())
    session.input.feed(encode(KeyAck(1)) + encode(KeyAck(2))[:3])
    session.finish()
    assert session.ended_after == [1]


async def test_last_messages_are_taken_before_the_end_is_reported() -> None:
    session = EndedSession(FairTurns())
    sent: list[Message] = [KeyAck(epoch) for epoch in range(1, 200)]
    session.input.feed(b"".join(map(encode, sent)))
    session.finish()
    await turns_until(lambda: bool(session.ended_after))
    assert session.taken == sent
    assert session.ended_after == [len(sent)]


async def test_last_messages_are_taken_although_the_input_was_held() -> None:
    session = EndedSession(FairTurns())
    session.input.hold()
    session.input.feed(encode(KeyAck(1)) * 3)
    session.finish()
    await turns_until(lambda: bool(session.ended_after))
    assert session.ended_after == [3]


@pytest.mark.parametrize("already", [0, 5, 10])
async def test_last_messages_beyond_the_rate_are_dropped(already: int) -> None:
    session = EndedSession(FairTurns(), Rate(per_second=0.01, burst=10.0))
    session.input.feed(encode(KeyAck(1)) * 50)
    await turns_until(lambda: len(session.taken) >= already)
    await asyncio.sleep(0)
    session.finish()
    await turns_until(lambda: bool(session.ended_after))
    session.input.feed(encode(KeyAck(2)))
    await asyncio.sleep(0)
    assert session.taken == [KeyAck(1)] * 10
    assert session.ended_after == [10]


async def test_last_messages_of_many_ended_sessions_are_taken_in_turns() -> None:
    """All sessions of a killed process end in one turn of the event loop."""
    turns, taken = FairTurns(), 0

    def take(_: Message) -> None:
        nonlocal taken
        taken += 1
        time.sleep(TURN_BUDGET / 4)

    sessions = [EndedSession(turns, take=take) for _ in range(8)]
    for session in sessions:
        session.input.feed(encode(Heartbeat()) * 8)
    for session in sessions:
        session.finish()
    per_turn = [taken]
    while not all(session.ended_after for session in sessions):
        before = taken
        await asyncio.sleep(0)
        per_turn.append(taken - before)
    assert sum(per_turn) == 8 * 8
    assert max(per_turn) <= 5


async def test_bad_packet_ends_the_last_messages() -> None:
    session = EndedSession(FairTurns())
    session.input.feed(encode(KeyAck(1)) * 2 + b"\x02\x01\x00\x00" + encode(KeyAck(3)))
    session.finish()
    await turns_until(lambda: bool(session.ended_after))
    assert (session.taken, len(session.errors), session.ended_after) == ([KeyAck(1)] * 2, 1, [2])


async def test_last_messages_of_a_closed_input_are_not_taken() -> None:
    session = EndedSession(FairTurns())
    session.input.feed(encode(KeyAck(1)) * 50)
    session.finish()
    session.input.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (session.taken, session.ended_after) == ([KeyAck(1)], [])
