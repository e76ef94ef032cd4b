"""Two masters of one group merge: the master that is asked decides which of them yields."""

from itertools import pairwise

from pskkey.core.actions import Action, Connect, Send
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session, Timeout
from pskkey.model import ErrorMessage, Group, Handover, Heartbeat, HeldKey, Join, KeyNewReason, Merge, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import key
from tests.core.situations import HIGH, LOW, OTHER, inbound, role, role_after_refusal

# --- the decision -----------------------------------------------------------------------------------------------------


def group_of(master: str, term: int) -> Group:
    """Return the group of a master with this node."""
    return Group(term, master, (member(master), member(ME)), (ME,))


def test_master_asks_a_rival_and_joins_the_side_with_more_members_on_the_same_session() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=3, members=4)))
    question = sent(Merge, harness.give(Connected(connect.session)))[0]
    assert (question.members, question.winner) == (1, None)
    actions = harness.receive(connect.session, Merge(member(LOW), 3, 4, 6, winner=LOW))
    assert [a.session for a in of(Send, actions) if isinstance(a.message, Join)] == [connect.session]
    assert role(harness) is Role.MASTER
    harness.receive(connect.session, group_of(LOW, 3))
    assert (role(harness), harness.view.term) == (Role.CLIENT, 3)


def test_master_that_wins_changes_nothing_before_the_other_one_has_confirmed_its_join() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    answer = sent(Merge, harness.accept(2, Merge(member(HIGH), term=5, members=1, epoch=8)))[0]
    assert (answer.winner, answer.term) == (ME, 1)
    harness.wait(1.0)
    assert (harness.view.term, [e.epoch for e in harness.view.keys]) == (1, [1])
    held = (HeldKey(8, key(801).fingerprint, send=True),)
    harness.receive(inbound(2), join(HIGH, term=5, held=held))
    assert (harness.view.term, [e.epoch for e in harness.view.keys]) == (6, [1])
    harness.receive(inbound(2), Heartbeat())
    assert [e.epoch for e in harness.view.keys] == [1, 9]


def test_merge_of_two_sides_with_the_same_key_makes_a_new_one() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    harness.accept(2, Merge(member(HIGH), term=1, members=1, epoch=1))
    harness.wait(1.0)
    harness.receive(inbound(2), join(HIGH, term=1, held=(HeldKey(1, key(1).fingerprint, send=True),)), Heartbeat())
    assert [e.epoch for e in harness.view.keys] == [1, 2]


def test_asked_master_yields_to_the_larger_side_and_hands_its_members_over_when_it_is_welcome() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    connect = one(Connect, harness.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8)))
    assert connect.peer == HIGH
    assert sent(Join, harness.give(Connected(connect.session)))
    assert role(harness) is Role.MASTER
    actions = harness.receive(connect.session, group_of(HIGH, 5))
    assert [h.master.id for h in sent(Handover, actions)] == [HIGH]
    assert role(harness) is Role.CLIENT


def test_master_that_lost_a_merge_asks_again_when_its_keys_have_changed_meanwhile() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8)))
    harness.give(Connected(connect.session))
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(1.0)
    harness.receive(connect.session, group_of(HIGH, 5))
    assert (role(harness), harness.view.term) == (Role.MASTER, 1)


def test_group_on_a_session_that_has_not_opened_is_ignored() -> None:
    """Seed 2083: the master wanted a standby session, and asked for its timer at once, for ever."""
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8)))
    others = (member(HIGH), member(LOW), member(ME))
    harness.receive(connect.session, Group(5, HIGH, others, (LOW, ME)))
    harness.give(Disconnected(connect.session, "lost"))
    for _ in range(100):
        deadline = harness.node.next_deadline()
        assert deadline is not None
        harness.now = max(harness.now, deadline)
        harness.give(Timeout())
    assert harness.now > 105.0
    assert role(harness) is Role.MASTER


# --- a winner that cannot be joined -----------------------------------------------------------------------------------


def lose_without_group(harness: NodeHarness, number: int) -> list[Action]:
    """Let the node lose a merge, connect to the winner, and receive no GROUP."""
    actions = harness.accept(number, Merge(member(HIGH), term=5, members=9, epoch=8))
    if not of(Connect, actions):
        return actions
    harness.give(Connected(one(Connect, actions).session, address="10.0.0.153"))
    return actions + harness.wait(2.0)


def test_master_stays_master_of_its_term_and_key_when_no_group_arrives_from_the_winner() -> None:
    """A path that drops large packets: JOIN gets through, and GROUP does not."""
    harness = NodeHarness().start().become_master()
    for number in range(2, 40):
        lose_without_group(harness, number)
    assert (role(harness), harness.view.term) == (Role.MASTER, 1)
    assert [e.epoch for e in harness.view.keys] == [1]


def test_winner_that_could_not_be_joined_is_tried_again_after_a_growing_time() -> None:
    harness = NodeHarness().start().become_master()
    attempts = []
    for number in range(2, 100):
        began = harness.now
        actions = lose_without_group(harness, number)
        if of(Connect, actions):
            attempts.append(began)
        else:
            assert [e.code for e in sent(ErrorMessage, actions)] == ["cannot_join"]
        harness.wait(1.0)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses == sorted(pauses)
    assert 5.0 <= max(pauses) <= 8.0, "5 s after the last failure, which took 2 s"


def test_winner_that_refuses_the_loser_still_ends_its_mastership() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8)))
    harness.give(Connected(connect.session))
    harness.receive(connect.session, ErrorMessage("group_full", "the group has 9 members"))
    assert role(harness) is Role.LISTENING


def test_recorded_rival_at_whose_address_nothing_listens_is_let_be() -> None:
    harness = NodeHarness().start().become_master()
    dead = advert(LOW, Role.MASTER, term=1)
    for _ in range(100):
        harness.hear_old(dead)
        harness.wait(1.0)
        for connect in of(Connect, harness.log)[-1:]:
            harness.give(Disconnected(connect.session, "it refused the connection", "refused"))
    assert len(of(Connect, harness.log)) == 1
    harness.hear(dead)
    assert len(of(Connect, harness.log)) == 2, "it has proved that it lives"


# --- two questions at once --------------------------------------------------------------------------------------------


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


def test_master_that_could_not_connect_to_the_winner_wins_the_merges_of_the_next_minute() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.accept(1, Merge(member(HIGH), term=5, members=9, epoch=8)))
    harness.give(Disconnected(connect.session, "no answer", "timeout"))
    assert role(harness) is Role.MASTER
    answer = sent(Merge, harness.accept(2, Merge(member(HIGH), term=9, members=9, epoch=8)))[0]
    assert (answer.winner, role(harness)) == (ME, Role.MASTER)
    harness.wait(61.0)
    answer = sent(Merge, harness.accept(3, Merge(member(HIGH), term=20, members=9, epoch=8)))[0]
    assert answer.winner == HIGH


def test_master_stays_master_when_the_winner_has_yielded_in_turn() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(9, Merge(member(LOW), 1, 9, 1))
    assert role_after_refusal(harness) is Role.MASTER


def test_member_listens_at_once_when_the_winner_that_it_was_sent_to_has_yielded_in_turn() -> None:
    harness = NodeHarness().start()
    harness.receive(harness.become_client(HIGH), Handover(member(OTHER), 1))
    assert role_after_refusal(harness) is Role.LISTENING
