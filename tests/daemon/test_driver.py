"""The driver with a real node: a long queue delays neither the event loop nor the timer of the node."""

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
"""Number of heartbeats; the driver needs some seconds for them."""


class CountingTransport:
    """An adapter with sessions. It counts the messages that it gets to send."""

    def __init__(self) -> None:
        self.sent = 0

    def connect(self, action: Connect) -> None:
        raise AssertionError(action)

    def send(self, session: Session, message: Message) -> None:
        assert (session, message) == (LOCAL, Heartbeat())
        self.sent += 1

    def disconnect(self, session: Session, error: ErrorMessage | None) -> None:
        raise AssertionError(session, error)


def start_driver(transport: CountingTransport, handled: Callable[[], None] = lambda: None) -> tuple[Driver, Node]:
    """Return the driver of a node that becomes master after 0.05 s, with a session manager, and the node."""
    me = Member("0123456789abcdef", "node", ("127.0.0.1",), 11111)
    node = Node(Settings("default", me, "0011223344556677", "n", timing=Timing(discovery_window=0.05)))
    driver = Driver(node)
    driver.attach(
        Outlets(
            key_client=transport,
            key_server=transport,
            key_socket=transport,
            advertise=lambda _advert, _is_news: None,
            notice=lambda _: None,
            save=None,
            random_key=random_key,
            when_read=lambda done: done(),
            handled=handled,
        )
    )
    driver.emit(Started())
    driver.emit(Attached(LOCAL, Process(1, 1)))
    return driver, node


async def count_turns_until(condition: Callable[[], bool]) -> int:
    """Return how many turns the event loop makes until the condition is true."""
    turns = 0
    async with asyncio.timeout(60):
        while True:
            if condition():
                return turns
            turns += 1
            await asyncio.sleep(0)


async def test_timer_of_the_node_expires_although_events_always_wait() -> None:
    transport = CountingTransport()
    driver, node = start_driver(transport)

    def is_master() -> bool:
        while driver.has_room():
            driver.emit(Received(LOCAL, Heartbeat()))
        return node.view().role is Role.MASTER

    await count_turns_until(is_master)
    assert 0 < transport.sent < FLOOD
    driver.close()


async def test_node_claims_only_when_it_has_handled_what_came_before() -> None:
    transport = CountingTransport()
    driver, node = start_driver(transport)
    for _ in range(FLOOD):
        driver.emit(Received(LOCAL, Heartbeat()))
    await count_turns_until(lambda: node.view().role is Role.MASTER)
    assert transport.sent == FLOOD
    driver.close()


async def test_event_loop_turns_while_events_wait() -> None:
    transport = CountingTransport()
    driver, _ = start_driver(transport)
    for _ in range(FLOOD):
        driver.emit(Received(LOCAL, Heartbeat()))
    turns = await count_turns_until(lambda: transport.sent == FLOOD)
    assert turns > 3
    driver.close()


@pytest.mark.parametrize(("waiting", "room"), [(QUEUE_ROOM - 3, True), (QUEUE_ROOM - 2, False)])
async def test_sessions_may_emit_until_the_queue_is_long(waiting: int, room: bool) -> None:
    driver, _ = start_driver(CountingTransport())
    for _ in range(waiting):
        driver.emit(Received(LOCAL, Heartbeat()))
    assert driver.has_room() is room
    driver.close()


async def test_handled_events_are_reported_once_a_turn() -> None:
    transport = CountingTransport()
    reports = 0

    def count() -> None:
        nonlocal reports
        reports += 1

    driver, _ = start_driver(transport, count)
    for _ in range(50):
        driver.emit(Received(LOCAL, Heartbeat()))
    await count_turns_until(lambda: transport.sent == 50)
    assert 0 < reports < 50
    driver.close()
