"""Connections that wait: the users take turns, and the places are bounded."""

import socket
from collections.abc import Iterator

import pytest

from pskkey.adapters.local.waiting_room import PLACES, WaitingRoom

ROOT, ALICE, BOB = 0, 1000, 1001


@pytest.fixture
def room() -> Iterator[WaitingRoom]:
    """A waiting room, which is emptied after the test."""
    made = WaitingRoom()
    yield made
    made.close()


def enter(room: WaitingRoom, uid: int, count: int = 1) -> list[socket.socket]:
    """Add `count` connections of a user."""
    connections = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for connection in connections:
        room.enter(connection, uid)
    return connections


def closed(connections: list[socket.socket]) -> list[bool]:
    """Return for each connection whether it is closed."""
    return [connection.fileno() < 0 for connection in connections]


def leave(room: WaitingRoom) -> Iterator[socket.socket]:
    """Yield the connections in the order of their turns. Close each one afterwards."""
    while (connection := room.leave()) is not None:
        yield connection
        connection.close()


def test_users_take_turns(room: WaitingRoom) -> None:
    alices, bobs = enter(room, ALICE, 3), enter(room, BOB, 2)
    assert list(leave(room)) == [alices[0], bobs[0], alices[1], bobs[1], alices[2]]


def test_connection_beside_a_flood_of_another_user_has_the_first_or_second_turn(room: WaitingRoom) -> None:
    enter(room, ALICE, 1000)
    [roots] = enter(room, ROOT)
    turns = leave(room)
    assert roots in (next(turns), next(turns))


def test_single_user_has_all_places_and_loses_the_oldest_connection(room: WaitingRoom) -> None:
    alices = enter(room, ALICE, PLACES + 2)
    assert closed(alices) == [True, True] + [False] * PLACES


def test_user_with_the_most_connections_makes_room_when_all_places_are_taken(room: WaitingRoom) -> None:
    alices = enter(room, ALICE, 2)
    others = [connection for uid in range(BOB, BOB + PLACES - 2) for connection in enter(room, uid)]
    with socket.socket(socket.AF_UNIX) as roots:
        assert room.enter(roots, ROOT) == ALICE
        assert closed([*alices, *others, roots]) == [True, False] + [False] * (PLACES - 1)


def test_waiting_connections_are_closed_at_the_end() -> None:
    room = WaitingRoom()
    waiting = [*enter(room, ALICE, 3), *enter(room, BOB)]
    room.close()
    assert all(closed(waiting))
    assert room.leave() is None
