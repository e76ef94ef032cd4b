"""Unlucky moments and peers that are authenticated but broken: nothing is lost that need not be, and nothing goes on
for ever."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Stopped
from pskkey.core.events import Attached, Connected, Direction, Disconnected, Session, StopRequested, Timeout
from pskkey.core.notices import OwnIdElsewhere, Slept
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    HeldKey,
    Join,
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Merge,
    Process,
    Role,
)
from pskkey.wire.packet import encode
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, refusal, sent
from tests.core.keys import entry, key

LOW, HIGH = "11111111", "99999999"
LOCAL, OTHER = Session(Direction.LOCAL, 1), Session(Direction.LOCAL, 2)


def mid_rekey() -> tuple[NodeHarness, Session]:
    """Return a client, with HIGH beside it, whose master has just distributed a second key."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.wait(0.6)
    state = KeyState(1, frozenset({0, 1, 2}), (entry(1, 901, send=True), entry(2, 902)))
    harness.receive(session, state)
    return harness, session


def take_over(harness: NodeHarness, session: Session) -> NodeHarness:
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    return harness


def rejoin(harness: NodeHarness, number: int, node: str, lease: int) -> KeyState:
    """Let a member of the lost master come over with both keys; return the last that it is told."""
    held = (HeldKey(1, key(901).fingerprint, send=True), HeldKey(2, key(902).fingerprint, send=False))
    back = replace(join(node, held=held), sender=True, lease=lease)
    return sent(KeyState, harness.accept(number, back))[-1]


def test_a_successor_does_not_send_with_a_key_that_its_members_may_not_have() -> None:
    harness = take_over(*mid_rekey())
    current = harness.view.current
    assert current is not None
    assert current.epoch == 1
    rejoin(harness, 1, HIGH, 2)
    harness.receive(Session(Direction.INBOUND, 1), KeyAck(2))
    current = harness.view.current
    assert current is not None
    assert current.epoch == 2, "now it is known that all have it"


def test_members_who_come_over_go_on_sending_under_the_lease_that_they_had() -> None:
    harness = take_over(*mid_rekey())
    assert rejoin(harness, 1, HIGH, 2).sender_id == 2


def test_a_lease_that_is_not_the_one_we_know_of_is_not_granted() -> None:
    harness = take_over(*mid_rekey())
    assert rejoin(harness, 1, HIGH, 7).sender_id is None


def test_a_restarted_sender_waits_also_when_the_key_that_it_sent_with_comes_back_later() -> None:
    harness, session = mid_rekey()
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10))
    activated = KeyState(1, frozenset({0, 1, 2}), (entry(1, 901), entry(2, 902, send=True)))
    harness.receive(session, activated)
    harness.receive(session, KeyState(1, frozenset({0, 1, 2}), (entry(1, 901, send=True), entry(2, 902))))
    harness.give(Disconnected(LOCAL, "gone"))
    harness.give(Attached(OTHER, Process(11, 0)))
    harness.receive(OTHER, KeyWatch(will_send=True, context=11))
    told = sent(KeyState, harness.receive(session, activated))
    assert not any(e.send for state in told for e in state.entries)


def test_a_second_sender_takes_over_when_the_first_one_leaves() -> None:
    harness = NodeHarness().start().become_master()
    for session, pid in ((LOCAL, 10), (OTHER, 11)):
        harness.give(Attached(session, Process(pid, 0)))
        harness.receive(session, KeyWatch(will_send=True, context=pid))
    told = sent(KeyState, harness.give(Disconnected(LOCAL, "gone")) + harness.wait(2.0))
    assert told[-1].sender_id is not None
    assert [e.epoch for e in told[-1].entries if e.send] == [2], "under a key that the first has not sent with"


def test_stopping_hands_over_and_says_nothing_more() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10), KeyNew(KeyNewReason.OPERATOR))
    actions = harness.give(StopRequested())
    assert [h.master.id for h in sent(Handover, actions)] == [LOW]
    assert isinstance(actions[-1], Stopped)
    assert not sent(KeyState, actions)


def test_a_wish_for_a_new_key_outlives_the_master_that_it_was_for() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.give(Disconnected(session, "reset"))
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyNew(KeyNewReason.SEQUENCE_HIGH_WATER))
    retry = of(Connect, harness.log)[-1]
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    assert harness.view.next is not None


def test_before_taking_over_a_newer_master_that_is_known_is_joined() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, term=3)
    harness.hear(advert(HIGH, Role.MASTER, term=4))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    assert one(Connect, harness.give(Disconnected(retry.session, "refused"))).peer == HIGH


def test_dead_rivals_do_not_stand_before_a_live_one() -> None:
    harness = NodeHarness().start().become_master()
    harness.hear(*(advert(i, Role.MASTER, members=9) for i in (LOW, "22222222")), advert("33333333", Role.MASTER))
    for _ in range(12):
        harness.wait(1.0)
        if (link := of(Connect, harness.log)[-1]).peer != "33333333":
            harness.give(Disconnected(link.session, "no answer"))
    assert "33333333" in {c.peer for c in of(Connect, harness.log)}


def test_only_one_of_two_masters_that_asked_each_other_decides() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("22222222"))
    asked = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    harness.give(Connected(asked.session))
    answer = sent(Merge, harness.accept(2, Merge(member(LOW), 1, 1, 1)))
    assert [m.winner for m in answer] == [harness.view.master.id if harness.view.master else None]
    harness.receive(asked.session, Merge(member(LOW), 1, 3, 1, winner=LOW))
    assert harness.view.role is Role.MASTER, "what it decided on our question does not count any more"


def test_a_merge_with_ourselves_is_refused() -> None:
    harness = NodeHarness().start().become_master()
    me = harness.view.master
    assert me is not None
    before = harness.view.term
    assert refusal(harness.accept(1, Merge(me, before, 5, 5))) == "duplicate_id"
    assert harness.view.term == before


def test_what_is_handed_to_another_node_with_our_id_gives_us_no_term_that_was_led_already() -> None:
    """Seed 14082: a master that yields names the winner to its members, and the term rises at the winner only."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, term=2)
    harness.receive(session, Handover(replace(member(ME), addresses=("10.0.0.77",)), 2))
    assert harness.view.role is Role.MASTER
    assert harness.view.term == 3


@pytest.mark.parametrize("code", ["group_full", "busy"])
def test_who_was_refused_does_not_found_a_group_beside_the_one_that_refused_it(code: str) -> None:
    harness = NodeHarness().start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    for _ in range(5):
        tries = len(of(Connect, harness.log))
        harness.give(Connected(session))
        harness.receive(session, ErrorMessage(code, "there is no place"))
        while len(of(Connect, harness.log)) == tries:
            harness.wait(0.5)
            harness.hear(advert(LOW, Role.MASTER))  # its beacon
            assert harness.view.role is not Role.MASTER
        session = of(Connect, harness.log)[-1].session


def test_a_group_follows_its_master_as_far_as_one_join_can_take_it() -> None:
    harness = NodeHarness().start().become_master()
    farthest = harness.view.term + 2**20
    assert refusal(harness.accept(1, join(HIGH, term=farthest + 1))) == "protocol"
    assert refusal(harness.accept(2, join(HIGH, term=farthest))) is None
    term = harness.view.term
    assert term == farthest + 1
    client = NodeHarness().start()
    session = client.become_client(HIGH)
    client.receive(session, Group(term, LOW, (member(LOW), member(ME)), (ME,)))
    client.wait(0.5)
    assert (client.node.view().role, client.node.view().term) == (Role.CLIENT, term)
    newcomer = NodeHarness().start()
    newcomer.become_client(term=term)
    assert (newcomer.node.view().role, newcomer.node.view().term) == (Role.CLIENT, term)


def test_joins_that_fail_again_and_again_do_not_put_off_the_claim_for_ever() -> None:
    harness = NodeHarness().start()
    started = harness.now
    term = 0
    while harness.view.role is not Role.MASTER and harness.now < started + 60.0:
        term += 1  # each claim of a higher term ends the hold-down
        for connect in of(Connect, harness.hear(advert((LOW, "22222222")[term % 2], Role.MASTER, term=term))):
            harness.give(Disconnected(connect.session, "refused"))
        harness.wait(0.4)
    assert harness.now - started < 10.0


@pytest.mark.parametrize("kind", [Join, Merge])
def test_a_term_out_of_reach_is_refused_and_ours_can_still_be_told(kind: type) -> None:
    harness = NodeHarness().start().become_master()
    far = 2**53 - 1
    said = join(LOW, term=far) if kind is Join else Merge(member(LOW), far, 9, 1)
    assert refusal(harness.accept(1, said)) == "protocol"
    assert harness.view.term == 1
    group = harness.node.group()
    assert group is not None
    assert encode(group)


def test_a_state_with_more_than_one_key_of_a_turn_is_cut_to_what_can_be_told() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    entries = (entry(1, 5, send=True), entry(2, 6), entry(3, 7))
    harness.receive(session, KeyState(1, frozenset({1}), entries))
    assert len(harness.node.key_state().entries) <= 3
    assert encode(harness.node.key_state())


def test_a_listener_that_slept_does_not_claim_by_what_it_knew_before() -> None:
    harness = NodeHarness().start()
    harness.now += 30.0
    actions = harness.give(Timeout())
    assert of(Slept, actions)
    assert harness.view.role is Role.LISTENING


def test_our_id_elsewhere_is_reported_once_a_minute_at_most() -> None:
    harness = NodeHarness().start()
    told = sum(len(of(OwnIdElsewhere, harness.hear(advert("55555555", r)))) for r in [*Role] * 20)
    assert told == 1
