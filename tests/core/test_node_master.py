"""What a master grants, refuses and decides, at the interface of a single node."""

from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session, SwitchoverRequested, Timeout
from pskkey.core.notices import DuplicateMember, OwnIdElsewhere, Slept
from pskkey.model import (
    Group,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Merge,
    Role,
)
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, refusal, sent
from tests.core.keys import key

LOW, HIGH = "11111111", "99999999"


def role(harness: NodeHarness) -> Role:
    return harness.view.role


def test_a_joiner_is_told_the_group_and_then_the_keys() -> None:
    harness = NodeHarness().start().become_master()
    actions = harness.accept(1, join(LOW))
    group, state = sent(Group, actions)[0], sent(KeyState, actions)[0]
    assert [m.id for m in group.members] == [ME, LOW]
    assert group.succession == (LOW,)
    assert state.sender_id is None, "it has nobody who sends"
    assert [e.send for e in state.entries] == [True]
    kinds = [type(m) for m in sent(object, actions)]
    assert kinds.index(Group) < kinds.index(KeyState)


def test_a_joiner_from_a_higher_term_raises_ours() -> None:
    harness = NodeHarness().start().become_master()
    actions = harness.accept(1, join(LOW, term=41))
    assert sent(Group, actions)[0].term == 42


def test_a_joiner_with_a_foreign_key_makes_a_new_one_above_both() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW, held=(HeldKey(17, "ffffffffffffffff", send=True),)))
    harness.wait(1.0)
    coming = harness.view.next
    assert coming is not None
    assert coming.epoch == 18


def test_a_silent_member_is_dropped_and_a_beating_one_is_not() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.accept(2, join(HIGH))
    for _ in range(4):
        harness.receive(Session(Direction.INBOUND, 2), Heartbeat())
        harness.wait(0.5)
    group = harness.node.group()
    assert group is not None
    assert [m.id for m in group.members] == [ME, HIGH]


def test_a_second_live_node_with_the_same_id_is_refused_loudly() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW, incarnation="a"))
    actions = harness.accept(2, join(LOW, incarnation="b"))
    assert refusal(actions) == "duplicate_id"
    assert of(DuplicateMember, actions)
    assert refusal(harness.accept(3, join(ME))) == "duplicate_id"


def test_the_wrong_group_is_refused() -> None:
    harness = NodeHarness().start().become_master()
    wrong = Join("other", member(LOW), "i", 0, (), sender=False, lease=None, version="t")
    assert refusal(harness.accept(1, wrong)) == "wrong_group"


def test_who_is_not_master_says_so_but_serves_the_key_that_it_holds() -> None:
    harness = NodeHarness().start()
    assert refusal(harness.accept(1, join(LOW))) == "not_master"
    assert refusal(harness.accept(2, KeyRequest())) == "no_key"
    harness.become_client()
    assert sent(KeyResponse, harness.accept(3, KeyRequest())) == [KeyResponse(key(901))]


def test_what_a_client_may_not_say_ends_its_session_only() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    assert refusal(harness.accept(2, KeyWatch(will_send=False))) == "protocol"
    assert refusal(harness.accept(3, Heartbeat())) == "protocol"
    group = harness.node.group()
    assert group is not None
    assert [m.id for m in group.members] == [ME, LOW]


def test_a_master_that_slept_listens_first() -> None:
    harness = NodeHarness().start().become_master()
    harness.now += 30.0
    actions = harness.give(Timeout())
    assert of(Slept, actions)
    assert role(harness) is Role.LISTENING


def test_of_two_masters_the_lower_goes_to_the_higher_and_yields_to_more_members() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=3, members=4)))
    question = sent(Merge, harness.give(Connected(connect.session)))[0]
    assert (question.members, question.winner) == (1, None)
    actions = harness.receive(connect.session, Merge(member(LOW), 3, 4, 6, winner=LOW))
    assert role(harness) is Role.JOINING
    assert of(Connect, actions)[-1].peer == LOW


def test_the_asked_master_decides_and_rolls_when_it_stays() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    question = Merge(member(HIGH), term=5, members=1, epoch=8)
    actions = harness.accept(2, question)
    answer = sent(Merge, actions)[0]
    assert (answer.winner, answer.term, answer.epoch) == (ME, 5, 8)
    assert harness.view.term == 6
    harness.wait(1.0)
    assert [e.epoch for e in harness.view.keys][-1] == 9


def test_the_asked_master_yields_to_the_larger_side_and_sends_its_clients_there() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    actions = harness.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8))
    assert [h.master.id for h in sent(Handover, actions)] == [HIGH]
    assert role(harness) is Role.JOINING


def test_our_own_id_in_anothers_advert_is_reported() -> None:
    harness = NodeHarness().start()
    assert of(OwnIdElsewhere, harness.hear(advert(ME, Role.MASTER)))


def test_an_old_advert_of_our_own_is_not_reported() -> None:
    harness = NodeHarness().start()
    assert not of(OwnIdElsewhere, harness.hear_old(advert(ME, Role.MASTER)))


def test_a_switchover_goes_to_the_named_member_or_the_next_and_leaves_no_gap() -> None:
    for wanted, successor in ((None, LOW), ("22222222", "22222222")):
        harness = NodeHarness().start().become_master()
        harness.accept(1, join(LOW))
        harness.accept(2, join("22222222"))
        actions = harness.give(SwitchoverRequested(wanted))
        told = sent(Handover, actions)
        assert {h.master.id for h in told} == {successor}
        assert len(told) == 2
        assert [len(h.members) for h in told if h.members] == [3], "the successor gets the member map"
        assert role(harness) is Role.JOINING
        assert of(Connect, actions)[-1].peer == successor


def test_a_switchover_to_nobody_changes_nothing() -> None:
    harness = NodeHarness().start().become_master()
    assert not sent(Handover, harness.give(SwitchoverRequested()))
    harness.accept(1, join(LOW))
    assert not sent(Handover, harness.give(SwitchoverRequested("77777777")))
    assert role(harness) is Role.MASTER


def test_only_with_preempt_does_a_better_newcomer_become_master_and_not_at_once() -> None:
    for preempt in (False, True):
        harness = NodeHarness(preempt=preempt).start().become_master()
        harness.accept(1, join(LOW))
        for _ in range(3):
            assert role(harness) is Role.MASTER
            harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
            harness.wait(0.9)
        assert role(harness) is (Role.JOINING if preempt else Role.MASTER)


def cannot_connect(harness: NodeHarness) -> None:
    """Let all that the node tries fail, until it is master again."""
    tried = len(of(Connect, harness.log)) - 1
    for _ in range(40):
        for connect in of(Connect, harness.log)[tried:]:
            tried += 1
            harness.give(Disconnected(connect.session, "no answer"))
        if role(harness) is Role.MASTER:
            return
        harness.wait(0.5)
    raise AssertionError("it has not become master again")


def test_who_has_yielded_in_vain_stays_the_next_time() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, Merge(member(HIGH), term=5, members=9, epoch=8))
    assert role(harness) is Role.JOINING
    cannot_connect(harness)
    answer = sent(Merge, harness.accept(2, Merge(member(HIGH), term=9, members=9, epoch=8)))[0]
    assert (answer.winner, role(harness)) == (ME, Role.MASTER)
    harness.wait(61.0)
    harness.accept(3, Merge(member(HIGH), term=20, members=9, epoch=8))
    assert role(harness) is Role.JOINING


def test_a_better_newcomer_that_nobody_can_connect_to_is_handed_over_to_less_and_less_often() -> None:
    harness = NodeHarness(preempt=True).start().become_master()
    begun = []
    for number in range(1, 5):
        harness.accept(number, join(LOW))
        since = harness.now
        while role(harness) is Role.MASTER:
            harness.receive(Session(Direction.INBOUND, number), Heartbeat())
            harness.wait(0.5)
        begun.append(harness.now - since)
        cannot_connect(harness)
    assert begun[0] < 3.0
    assert [50 * 2**n < seconds < 60 * 2**n for n, seconds in enumerate(begun[1:])] == [True] * 3, begun


def test_a_newcomer_that_acknowledges_nothing_puts_off_no_key_for_long() -> None:
    """It only says that it is alive; a key waits up to 5 s for a member that is about to acknowledge it."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    for tenth in range(30):
        if tenth == 22:
            harness.give(RekeyRequested(KeyNewReason.OPERATOR))
        harness.wait(0.1)
        harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
    current = harness.view.current
    assert current is not None
    assert current.epoch == 2
