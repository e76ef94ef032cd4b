"""Two masters of one group merge: the master that is asked decides which of them yields."""

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Connected, Direction, Disconnected, Session
from pskkey.model import Handover, Merge, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.situations import HIGH, LOW, OTHER, fail_until_master, role_after_refusal

# --- the decision -----------------------------------------------------------------------------------------------------


def test_master_asks_a_rival_and_yields_to_the_side_with_more_members() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=3, members=4)))
    question = sent(Merge, harness.give(Connected(connect.session)))[0]
    assert (question.members, question.winner) == (1, None)
    actions = harness.receive(connect.session, Merge(member(LOW), 3, 4, 6, winner=LOW))
    assert harness.view.role is Role.JOINING
    assert of(Connect, actions)[-1].peer == LOW


def test_asked_master_decides_and_rekeys_when_it_wins() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    question = Merge(member(HIGH), term=5, members=1, epoch=8)
    actions = harness.accept(2, question)
    answer = sent(Merge, actions)[0]
    assert (answer.winner, answer.term, answer.epoch) == (ME, 5, 8)
    assert harness.view.term == 6
    harness.wait(1.0)
    assert [e.epoch for e in harness.view.keys][-1] == 9


def test_asked_master_yields_to_the_larger_side_and_hands_its_members_over() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    actions = harness.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8))
    assert [h.master.id for h in sent(Handover, actions)] == [HIGH]
    assert harness.view.role is Role.JOINING


def test_only_one_of_two_masters_that_asked_each_other_decides() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    asked = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    harness.give(Connected(asked.session))
    answer = sent(Merge, harness.accept(2, Merge(member(LOW), 1, 1, 1)))
    assert [m.winner for m in answer] == [harness.view.master.id if harness.view.master else None]
    harness.receive(asked.session, Merge(member(LOW), 1, 3, 1, winner=LOW))
    assert harness.view.role is Role.MASTER, "its answer to our question no longer counts"


def test_dead_rivals_do_not_keep_a_master_from_a_live_one() -> None:
    harness = NodeHarness().start().become_master()
    harness.hear(*(advert(i, Role.MASTER, members=9) for i in (LOW, "22222222")), advert("33333333", Role.MASTER))
    for _ in range(12):
        harness.wait(1.0)
        if (link := of(Connect, harness.log)[-1]).peer != "33333333":
            harness.give(Disconnected(link.session, "no answer"))
    assert "33333333" in {c.peer for c in of(Connect, harness.log)}


def test_member_that_asks_for_a_merge_is_no_longer_a_member() -> None:
    """Seeds of the kind "babbler"."""
    harness = NodeHarness(priority=200).start().become_master()
    harness.accept(1, join(LOW))
    assert harness.members == {LOW}
    harness.receive(Session(Direction.INBOUND, 1), Merge(member(LOW), 1, 1, 1))
    assert not harness.members
    later = harness.wait(1.0)
    assert not [a for a in of(Send, later) if a.session == Session(Direction.INBOUND, 1)]


# --- after a node has yielded -----------------------------------------------------------------------------------------


def test_master_that_yielded_without_effect_wins_the_merges_of_the_next_minute() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, Merge(member(HIGH), term=5, members=9, epoch=8))
    assert harness.view.role is Role.JOINING
    fail_until_master(harness)
    answer = sent(Merge, harness.accept(2, Merge(member(HIGH), term=9, members=9, epoch=8)))[0]
    assert (answer.winner, harness.view.role) == (ME, Role.MASTER)
    harness.wait(61.0)
    harness.accept(3, Merge(member(HIGH), term=20, members=9, epoch=8))
    assert harness.view.role is Role.JOINING


def test_yielding_master_listens_at_once_when_the_winner_has_yielded_in_turn() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(9, Merge(member(LOW), 1, 9, 1))
    assert role_after_refusal(harness) is Role.LISTENING


def test_member_listens_at_once_when_the_winner_that_it_was_sent_to_has_yielded_in_turn() -> None:
    harness = NodeHarness().start()
    harness.receive(harness.become_client(HIGH), Handover(member(OTHER), 1))
    assert role_after_refusal(harness) is Role.LISTENING
