"""A member that has lost the master earlier than the first successor waits there, and need not ask again."""

import pytest

from pskkey.core.actions import Connect, Disconnect, Send
from pskkey.core.events import Connected, Direction, Disconnected, Session, Timeout
from pskkey.core.waiting_joins import JOINS_AT_ONCE
from pskkey.model import ErrorMessage, Group, Handover, Heartbeat, Role
from tests.core.harness import ME, NodeHarness, join, member, of, one, refusal, sent
from tests.core.situations import HIGH, LOW, OTHER

TERM = 4


def first_successor() -> tuple[NodeHarness, Session]:
    """Return a member that is the first successor of its master, and its session with the master."""
    harness = NodeHarness().start()
    return harness, harness.become_client(HIGH, "77777777", master=LOW, term=TERM)


def ask(harness: NodeHarness, number: int, node: str = HIGH, term: int = TERM) -> Session:
    """Let a node that has lost a master of `term` send JOIN to the node; return its session."""
    harness.accept(number, join(node, term=term))
    return Session(Direction.INBOUND, number)


def lose_master(harness: NodeHarness, session: Session) -> None:
    """Let the node lose its master for good."""
    again = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(again.session, "refused"))


def test_join_gets_a_heartbeat_at_once_and_is_accepted_when_the_successor_has_lost_the_master_too() -> None:
    harness, session = first_successor()
    actions = harness.accept(1, join(HIGH, term=TERM))
    assert sent(Heartbeat, actions)
    assert not of(Disconnect, actions)
    lose_master(harness, session)
    assert harness.view.role is Role.MASTER
    actions = harness.wait(0)
    assert [group.term for group in sent(Group, actions)] == [TERM + 1]


def test_waiting_joins_are_accepted_in_their_order_and_few_at_once() -> None:
    harness, session = first_successor()
    nodes = [f"8888{number:04x}" for number in range(3 * JOINS_AT_ONCE)]
    sessions = [ask(harness, number, node) for number, node in enumerate(nodes, 1)]
    lose_master(harness, session)
    welcomed: list[Session] = []
    while (deadline := harness.node.next_deadline()) is not None and deadline <= harness.now:
        harness.now = max(harness.now, deadline)
        actions = harness.give(Timeout())
        at_once = [a.session for a in of(Send, actions) if isinstance(a.message, Group)]
        assert len(at_once) <= JOINS_AT_ONCE
        welcomed += at_once
    assert welcomed == sessions


def test_join_of_a_member_of_another_term_is_refused_at_once() -> None:
    harness, _ = first_successor()
    assert refusal(harness.accept(1, join(HIGH, term=TERM - 1))) == "not_master"


def test_join_is_refused_if_the_master_is_alive() -> None:
    harness, session = first_successor()
    ask(harness, 1)
    harness.now += 0.4
    assert refusal(harness.receive(session, Heartbeat())) is None, "it may have been sent before the master was lost"
    harness.now += 0.2
    assert refusal(harness.receive(session, Heartbeat())) == "not_master"
    assert not of(Disconnect, harness.receive(session, Heartbeat())), "once"


def test_waiting_join_is_accepted_after_a_handover() -> None:
    harness, session = first_successor()
    ask(harness, 1)
    harness.receive(session, Handover(member(ME), TERM + 1))
    assert sent(Group, harness.wait(0))


def test_waiting_joins_are_refused_when_the_node_listens() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(master=LOW, term=TERM)
    ask(harness, 1)
    harness.receive(session, Handover(member(OTHER), TERM + 1))
    walk = of(Connect, harness.log)[-1].session
    harness.give(Connected(walk))
    harness.receive(walk, ErrorMessage("not_master", "not I"))
    assert harness.view.role is Role.LISTENING
    assert refusal(harness.wait(0)) == "not_master"


@pytest.mark.parametrize("ends", [True, False], ids=["its session ended", "it sent an error"])
def test_join_of_a_joiner_that_is_gone_is_forgotten(*, ends: bool) -> None:
    harness, session = first_successor()
    waiting = ask(harness, 1)
    if ends:
        harness.give(Disconnected(waiting, "reset"))
    else:
        harness.receive(waiting, ErrorMessage("bye", "I go"))
    lose_master(harness, session)
    assert not sent(Group, harness.wait(0.2))


def test_a_node_that_may_not_be_master_lets_no_join_wait() -> None:
    harness = NodeHarness(eligible=False).start()
    harness.become_client(HIGH, master=LOW, term=TERM)
    assert refusal(harness.accept(1, join(HIGH, term=TERM))) == "not_master"
