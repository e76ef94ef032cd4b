"""A member with, or before, its standby session: what the tests of it begin with."""

from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Disconnected, Session
from pskkey.core.standby import STANDBY_AFTER
from pskkey.model import Heartbeat
from tests.core.harness import NodeHarness, of, one
from tests.core.situations import LOW

FIRST = "22222222"
"""The first successor."""


def become_member(*others: str) -> tuple[NodeHarness, Session]:
    """Return a node that has just joined LOW, which also serves FIRST and `others`; and its session."""
    harness = NodeHarness().start()
    return harness, harness.become_client(FIRST, *others, master=LOW)


def beat(harness: NodeHarness, session: Session, seconds: float) -> None:
    """Let time pass while the master sends heartbeats."""
    end = harness.now + seconds
    while harness.now < end - 0.01:
        harness.wait(min(0.4, end - harness.now))
        harness.receive(session, Heartbeat())


def with_standby() -> tuple[NodeHarness, Session, Session]:
    """Return a member, its session with LOW, and its open standby session with FIRST."""
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    standby = of(Connect, harness.log)[-1]
    assert standby.peer == FIRST
    harness.give(Connected(standby.session))
    return harness, session, standby.session


def fail(harness: NodeHarness, session: Session, code: str = "unreachable") -> None:
    """Let the last attempt of the node fail after 0.1 s, and the next one begin."""
    attempt = of(Connect, harness.log)[-1]
    beat(harness, session, 0.1)
    harness.give(Disconnected(attempt.session, "no route to it", code))
    beat(harness, session, 0.1)


def one_attempt(harness: NodeHarness, peer: str) -> Session:
    """Return the session of the last attempt, which must be with `peer`."""
    attempt = of(Connect, harness.log)[-1]
    assert attempt.peer == peer
    return attempt.session


def tried(harness: NodeHarness, before: int = 0) -> list[str]:
    """Return the nodes that the node has tried to reach beside its master, without the first `before` actions."""
    return [connect.peer for connect in of(Connect, harness.log[before:]) if connect.peer != LOW]


def lose_master(harness: NodeHarness, session: Session) -> int:
    """Let the node lose its master for good; return how many actions there were before."""
    again = one(Connect, harness.give(Disconnected(session, "reset")))
    before = len(harness.log)
    harness.give(Disconnected(again.session, "refused"))
    return before


def with_second_successor() -> tuple[NodeHarness, Session, Session]:
    """Return a member, its session with LOW, and its open standby session with the next one: FIRST is out of reach."""
    harness, session = become_member("33333333")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    second = of(Connect, harness.log)[-1]
    assert second.peer == "33333333"
    harness.give(Connected(second.session))
    return harness, session, second.session
