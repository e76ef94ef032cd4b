"""A member acknowledges no new key of its next master before the transitional members have joined that master too."""

from dataclasses import replace

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Connected, Direction, Disconnected, Session
from pskkey.model import Handover, Heartbeat, KeyAck, Merge, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import entry
from tests.core.situations import HIGH, LOW, OTHER, group_of, state


def join_other(harness: NodeHarness, lost: Session, *members: str) -> Session:
    """Let a member lose its master and join OTHER, which has these members; return the new session."""
    one(Connect, harness.give(Disconnected(lost, "reset")))
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, harness.log)[-1].session
    harness.give(Connected(new))
    harness.receive(new, group_of(2, OTHER, ME, *members), state(entry(2, 902)))
    return new


def acknowledged(harness: NodeHarness, session: Session) -> list[int]:
    """Return the epochs that a node acknowledges on a session after the time for its session managers."""
    harness.receive(session, Heartbeat())
    harness.wait(0.6)
    sends = [a.message for a in of(Send, harness.log) if a.session == session]
    return [m.epoch for m in sends if isinstance(m, KeyAck)]


def test_member_acknowledges_no_new_key_before_its_transitional_members_have_joined() -> None:
    harness = NodeHarness().start()
    new = join_other(harness, harness.become_client(HIGH, OTHER))
    assert not acknowledged(harness, new), "HIGH may come"
    harness.receive(new, group_of(2, OTHER, ME, HIGH), state(entry(2, 902)))
    assert acknowledged(harness, new) == [2], "LOW was the master and is lost"


def test_member_waits_for_its_transitional_members_no_longer_than_comes_within() -> None:
    harness = NodeHarness().start()
    new = join_other(harness, harness.become_client(HIGH, OTHER))
    for _ in range(25):
        harness.wait(0.1)
        harness.receive(new, Heartbeat())
    assert acknowledged(harness, new) == [2]


def test_member_that_leaves_the_group_of_one_master_is_not_transitional() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, OTHER)
    harness.receive(session, group_of(1, LOW, ME, OTHER), state(entry(1, 901, send=True), entry(2, 902)))
    assert acknowledged(harness, session)[-1:] == [2]


def test_master_that_hands_over_is_transitional() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    new = one(Connect, harness.receive(session, Handover(member(OTHER), 1))).session
    harness.give(Connected(new))
    harness.receive(new, group_of(2, OTHER, ME), state(entry(2, 902)))
    assert not acknowledged(harness, new)
    harness.receive(new, group_of(2, OTHER, ME, LOW), state(entry(2, 902)))
    assert acknowledged(harness, new) == [2]


def test_nodes_that_had_not_joined_the_next_master_before_its_loss_are_transitional() -> None:
    harness = NodeHarness().start()
    new = join_other(harness, harness.become_client(HIGH, OTHER))
    again = one(Connect, harness.give(Disconnected(new, "reset"))).session
    harness.give(Connected(again))
    harness.receive(again, group_of(2, OTHER, ME), state(entry(2, 902)))
    assert not acknowledged(harness, again), "HIGH may come"


def test_no_node_is_transitional_long_after_the_loss_of_the_group() -> None:
    harness = NodeHarness(eligible=False).start()
    session = harness.become_client(HIGH)
    harness.receive(session, replace(group_of(1, LOW, ME, HIGH), succession=(HIGH,)))
    harness.give(Disconnected(session, "reset"))
    harness.wait(30.0)
    assert harness.view.role is not Role.MASTER
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, harness.log)[-1].session
    harness.give(Connected(new))
    harness.receive(new, group_of(2, OTHER, ME), state(entry(2, 902)))
    assert acknowledged(harness, new) == [2]


def yielded(harness: NodeHarness, *members: str) -> Session:
    """Let a master yield to LOW and join it beside these members; return the session."""
    assert [m.winner for m in sent(Merge, harness.accept(9, Merge(member(LOW), 1, 9, 1)))] == [LOW]
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    harness.receive(session, group_of(9, LOW, ME, *members), state(entry(2, 902)))
    return session


def test_members_of_a_yielding_master_are_transitional_and_those_that_it_has_just_lost() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    harness.accept(2, join(OTHER))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    session = yielded(harness)
    assert not acknowledged(harness, session)
    harness.receive(session, group_of(9, LOW, ME, OTHER), state(entry(2, 902)))
    assert not acknowledged(harness, session), "HIGH was lost a moment ago"
    harness.receive(session, group_of(9, LOW, ME, OTHER, HIGH), state(entry(2, 902)))
    assert acknowledged(harness, session) == [2]


def test_master_that_yields_to_one_that_yields_itself_is_transitional() -> None:
    """Seed 3856: each of eight masters with one key yields to the next; the last one did not wait for all."""
    harness = NodeHarness(priority=200).start().become_master()
    harness.wait(1.2)
    assert [m.winner for m in sent(Merge, harness.accept(2, Merge(member(HIGH), 1, 1, 1)))] == [ME]
    session = yielded(harness)
    assert not acknowledged(harness, session), "HIGH has yielded to this node, and has not come yet"
    harness.receive(session, group_of(9, LOW, ME, HIGH), state(entry(2, 902)))
    assert acknowledged(harness, session) == [2]


def test_persisted_members_are_not_transitional() -> None:
    harness = NodeHarness().start()
    harness.become_client(HIGH)
    again = harness.restart()
    connect = one(Connect, again.hear(advert(OTHER, Role.MASTER, term=2)))
    again.give(Connected(connect.session))
    again.receive(connect.session, group_of(2, OTHER, ME), state(entry(2, 902)))
    assert acknowledged(again, connect.session) == [2], "the saved group may be old"
