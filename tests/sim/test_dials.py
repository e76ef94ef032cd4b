"""A simulated attempt to connect ends when that of the key client would, and with the same code."""

from dataclasses import dataclass

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Direction, Disconnected, Event, Session
from tests.sim.host import Host
from tests.sim.world import World

BEGIN = 6.0
SESSION = Session(Direction.OUTBOUND, 900)


@dataclass
class Attempt:
    """The attempt of one of three nodes to reach `peer`; `other` is the third node."""

    world: World
    host: Host
    peer: Host
    other: Host

    def run(self, first: Host, second: Host | None = None, *, timeout: float = 0.75) -> tuple[float, Event]:
        """Try the addresses of `first` and `second`, with a patience of 10 s. Return how long it took, and its end."""
        ends: list[tuple[float, Event]] = []

        def note(host: Host, event: Event) -> None:
            if host is self.host and isinstance(event, Connected | Disconnected) and event.session == SESSION:
                ends.append((self.world.now - BEGIN, event))

        self.world.events.append(note)
        addresses = (*first.member.addresses, *(second.member.addresses if second else ()))
        self.world.streams.connect(
            self.host, Connect(SESSION, self.peer.member.id, addresses, 11111, timeout, patience=10.0)
        )
        self.world.run_until(BEGIN + 15.0)
        (end,) = ends
        return end


@pytest.fixture
def attempt() -> Attempt:
    world = World(1)
    for _ in range(3):
        world.start(world.add())
    world.run_until(BEGIN)
    return Attempt(world, *world.hosts)


def code_of(event: Event) -> str:
    assert isinstance(event, Disconnected)
    return event.code


@pytest.mark.parametrize(("wakes_after", "ends_after"), [(0.4, 0.75), (1.2, 1.2)])
def test_handshake_with_another_node_prolongs_an_attempt_only_until_it_is_over(
    attempt: Attempt, wakes_after: float, ends_after: float
) -> None:
    attempt.world.power_off(attempt.peer)
    attempt.world.pause(attempt.other)
    attempt.world.at(BEGIN + wakes_after, lambda: attempt.world.wake(attempt.other))
    took, end = attempt.run(attempt.peer, attempt.other)
    assert code_of(end) == "wrong_node"
    assert took == pytest.approx(ends_after, abs=0.2)


def test_silent_handshake_is_waited_for_though_another_node_has_answered(attempt: Attempt) -> None:
    attempt.world.pause(attempt.peer)
    took, end = attempt.run(attempt.other, attempt.peer)
    assert code_of(end) == "no_handshake"
    assert took == pytest.approx(10.0, abs=0.2)


def test_address_without_tcp_is_not_waited_for(attempt: Attempt) -> None:
    attempt.world.power_off(attempt.peer)
    took, end = attempt.run(attempt.peer)
    assert (took, code_of(end)) == (0.75, "timeout")


def test_process_that_ends_in_a_handshake_does_not_refuse(attempt: Attempt) -> None:
    attempt.world.pause(attempt.peer)
    attempt.world.at(BEGIN + 0.4, lambda: attempt.world.crash(attempt.peer))
    assert code_of(attempt.run(attempt.peer)[1]) == "handshake"


def test_no_address_is_tried_after_the_time_of_an_attempt(attempt: Attempt) -> None:
    attempt.world.pause(attempt.other)
    attempt.world.at(BEGIN + 1.2, lambda: attempt.world.crash(attempt.other))
    took, end = attempt.run(attempt.other, attempt.peer)
    assert code_of(end) == "handshake"
    assert took == pytest.approx(1.2, abs=0.2)
