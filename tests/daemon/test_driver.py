"""The driver with a real node: a long queue keeps neither the event loop nor the clock of the group waiting."""

import asyncio
from collections.abc import Callable

import pytest

from pskkey.adapters.host.entropy import random_key
from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Direction, Received, Session, Started
from pskkey.core.node import Node
from pskkey.core.settings import Settings, Timing
from pskkey.daemon.driver import QUEUE_ROOM, Driver, Outlets
from pskkey.model import ErrorMessage, Heartbeat, Member, Message, Process, Role

LOCAL = Session(Direction.LOCAL, 1)
FLOOD = 20000
"""Heartbeats: they take some seconds."""


class Counted:
    """What has sessions, and counts what it is to send."""

    def __init__(self) -> None:
        self.sent = 0

    def connect(self, action: Connect) -> None:
        raise AssertionError(action)

    def send(self, session: Session, message: Message) -> None:
        assert (session, message) == (LOCAL, Heartbeat())
        self.sent += 1

    def disconnect(self, session: Session, error: ErrorMessage | None) -> None:
        raise AssertionError(session, error)


def started(door: Counted, handled: Callable[[], None] = lambda: None) -> tuple[Driver, Node]:
    """Return the driver of a node that becomes master after 0.05 s, with a session manager, and the node."""
    me = Member("0123456789abcdef", "node", ("127.0.0.1",), 11111)
    node = Node(Settings("default", me, "0011223344556677", "0.1.0", "n", timing=Timing(discovery_window=0.05)))
    driver = Driver(node)
    driver.attach(
        Outlets(
            key_client=door,
            key_server=door,
            key_socket=door,
            advertise=lambda _: None,
            notice=lambda _: None,
            save=None,
            random_key=random_key,
            handled=handled,
        )
    )
    driver.emit(Started())
    driver.emit(Attached(LOCAL, Process(1, 1)))
    return driver, node


async def each_turn_until(condition: Callable[[], bool]) -> int:
    """Return how many turns the event loop makes until it is so."""
    turns = 0
    async with asyncio.timeout(60):
        while True:
            if condition():
                return turns
            turns += 1
            await asyncio.sleep(0)


async def test_time_of_the_group_goes_on_before_the_queue_is_empty() -> None:
    door = Counted()
    driver, node = started(door)
    for _ in range(FLOOD):
        driver.emit(Received(LOCAL, Heartbeat()))
    await each_turn_until(lambda: node.view().role is Role.MASTER)
    assert 0 < door.sent < FLOOD
    driver.close()


async def test_loop_turns_while_events_wait() -> None:
    door = Counted()
    driver, _ = started(door)
    for _ in range(FLOOD):
        driver.emit(Received(LOCAL, Heartbeat()))
    turns = await each_turn_until(lambda: door.sent == FLOOD)
    assert turns > 3
    driver.close()


@pytest.mark.parametrize(("waiting", "room"), [(QUEUE_ROOM - 3, True), (QUEUE_ROOM - 2, False)])
async def test_there_is_room_until_the_queue_is_long(waiting: int, room: bool) -> None:
    driver, _ = started(Counted())
    for _ in range(waiting):
        driver.emit(Received(LOCAL, Heartbeat()))
    assert driver.has_room() is room
    driver.close()


async def test_what_follows_from_events_is_reported_once_a_turn() -> None:
    door = Counted()
    reports = 0

    def count() -> None:
        nonlocal reports
        reports += 1

    driver, _ = started(door, count)
    for _ in range(50):
        driver.emit(Received(LOCAL, Heartbeat()))
    await each_turn_until(lambda: door.sent == 50)
    assert 0 < reports < 50
    driver.close()
