"""A joiner is a member when it confirms GROUP by its next message. Until then it costs the members nothing."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Connect, Send
from pskkey.core.events import (
    Accepted,
    AdvertReceived,
    Connected,
    Direction,
    Disconnected,
    Event,
    RekeyRequested,
    Session,
    StopRequested,
    SwitchoverRequested,
)
from pskkey.core.notices import JoinerLeft, MemberLost
from pskkey.daemon.conditions import ConditionList
from pskkey.model import (
    Condition,
    ConditionKind,
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    KeyNewReason,
    KeyState,
    Merge,
    Role,
)
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import key
from tests.core.situations import HIGH, LOW, OTHER, acknowledge, inbound, role

OWN_KEYS = (HeldKey(1, key(1).fingerprint, send=True), HeldKey(2, "cd" * 8, send=False))
"""The keys of a master of the same key that has already made a next key."""


def leading() -> NodeHarness:
    """Return a master with the confirmed member HIGH on session 1."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    acknowledge(harness, 1, 1)
    stay(harness, 1.0)
    return harness


def stay(harness: NodeHarness, seconds: float) -> list[Action]:
    """Let time pass while the member on session 1 sends heartbeats."""
    actions: list[Action] = []
    end = harness.now + seconds
    while harness.now < end - 1e-9:
        actions += harness.receive(inbound(1), Heartbeat()) + harness.wait(0.25)
    return actions


def join_without_confirming(harness: NodeHarness, number: int, message: Join) -> list[Action]:
    """Let a node join on a new session, and send nothing else."""
    return harness.give(Accepted(inbound(number), "10.0.0.99")) + harness.receive(inbound(number), message)


def groups(harness: NodeHarness, session: Session) -> list[Group]:
    """Return the GROUPs that were sent on a session."""
    return [a.message for a in of(Send, harness.log) if a.session == session and isinstance(a.message, Group)]


# --- not a member yet -------------------------------------------------------------------------------------------------


def test_unconfirmed_joiner_is_in_its_own_group_only_also_when_a_change_is_sent_to_all() -> None:
    harness = leading()
    join_without_confirming(harness, 2, join(LOW, term=7))
    stay(harness, 0.5)
    harness.give(Disconnected(inbound(2), "reset"))
    stay(harness, 5.0)
    assert all(LOW not in {m.id for m in group.members} for group in groups(harness, inbound(1)))
    assert LOW in {m.id for m in groups(harness, inbound(2))[-1].members}


def test_second_session_of_a_member_that_never_confirms_is_lost_for_all() -> None:
    harness = leading()
    harness.accept(2, join(LOW))
    stay(harness, 1.0)
    join_without_confirming(harness, 3, join(LOW))
    stay(harness, 5.0)
    assert LOW not in {m.id for m in groups(harness, inbound(1))[-1].members}


@pytest.mark.parametrize("end", ["it leaves", "it falls silent", "it joins again", "the master stops"])
def test_joiner_that_got_the_keys_and_never_confirmed_is_reported_when_it_ends(end: str) -> None:
    harness = leading()
    accepted = harness.give(Accepted(inbound(2), "10.0.0.99", "thief"))
    joined = accepted + harness.receive(inbound(2), join(LOW))
    assert sent(KeyState, joined)[-1].entries
    assert not of(JoinerLeft, joined)
    match end:
        case "it leaves":
            actions = harness.give(Disconnected(inbound(2), "it closed the connection"))
        case "it falls silent":
            actions = stay(harness, 3.0)
        case "it joins again":
            stay(harness, 1.0)
            actions = join_without_confirming(harness, 3, replace(join(LOW), incarnation="another process"))
        case _:
            actions = harness.give(StopRequested())
    assert of(JoinerLeft, actions) == [JoinerLeft("10.0.0.99", "thief", join(LOW).member)]
    assert not of(MemberLost, actions)


def test_member_is_not_reported_as_an_unconfirmed_joiner() -> None:
    harness = leading()
    harness.accept(2, join(LOW))
    harness.accept(3, join(LOW))
    harness.give(Disconnected(inbound(3), "it closed the connection"))
    join_without_confirming(harness, 4, join(OTHER))
    harness.accept(5, join(OTHER))  # it has renewed its session before its first message
    harness.give(StopRequested())
    assert not of(JoinerLeft, harness.log)


def test_handover_never_names_an_unconfirmed_joiner() -> None:
    requests: Iterable[Event] = (StopRequested(), SwitchoverRequested())
    for request in requests:
        harness = leading()
        join_without_confirming(harness, 2, join(LOW))
        assert {message.master.id for message in sent(Handover, harness.give(request))} == {HIGH}


def test_joiner_that_never_confirms_delays_a_new_key_only_at_its_first_attempt() -> None:
    harness = leading()
    held = (HeldKey(7, "ab" * 8, send=True),)
    join_without_confirming(harness, 2, join(LOW, held=held))
    stay(harness, 2.5)
    for number in range(3, 7):
        join_without_confirming(harness, number, join(LOW, held=held))
        harness.give(RekeyRequested(KeyNewReason.OPERATOR))
        stay(harness, 1.0)
        coming = harness.view.keys[-1].epoch
        acknowledge(harness, 1, coming)
        stay(harness, 0.5)
        current = harness.view.current
        assert current is not None
        assert current.epoch == coming
        stay(harness, 6.0)


def test_error_is_no_confirmation() -> None:
    harness = leading()
    harness.accept(2, Merge(member(LOW), 1, 1, 1))
    harness.receive(inbound(2), join(LOW, term=1, held=OWN_KEYS[:1]), ErrorMessage("x", "y"))
    stay(harness, 1.0)
    assert [k.epoch for k in harness.view.keys] == [1]


# --- a master that has yielded ----------------------------------------------------------------------------------------


def test_merge_makes_a_new_key_also_when_the_loser_confirms_in_its_second_session() -> None:
    harness = leading()
    harness.accept(2, Merge(member(LOW), 1, 1, 2))
    harness.receive(inbound(2), join(LOW, term=1, held=OWN_KEYS))
    harness.give(Disconnected(inbound(2), "reset"))
    stay(harness, 4.0)
    harness.accept(3, join(LOW, term=1, held=OWN_KEYS))
    stay(harness, 1.0)
    assert harness.view.keys[-1].epoch == 3


def test_merge_of_a_loser_whose_connection_to_the_winner_is_refused_is_decided_the_other_way() -> None:
    harness = NodeHarness().start().become_master()
    winners = []
    for number in range(1, 6):
        actions = harness.accept(number, Merge(member(HIGH), 5, 9, 8))
        winners += [message.winner for message in sent(Merge, actions)]
        for connect in of(Connect, actions):
            harness.give(Disconnected(connect.session, "10.0.0.153: refused", "refused"))
        harness.wait(3.0)
    assert winners == [HIGH, *[ME] * 4]


def test_recorded_rival_where_nothing_listened_is_asked_again_after_minutes() -> None:
    harness = NodeHarness().start().become_master()
    for number in range(700):
        harness.hear_old(replace(advert(LOW, Role.MASTER, term=1, members=5), challenge=f"x{number // 5}"))
        harness.wait(1.0)
        for connect in of(Connect, harness.log)[-1:]:
            harness.give(Disconnected(connect.session, "refused", "refused"))
    assert len(of(Connect, harness.log)) == 3


def test_question_of_the_winner_does_not_end_the_join_that_is_under_way() -> None:
    harness = NodeHarness().start().become_master()
    connect = one(Connect, harness.accept(1, Merge(member(HIGH), 5, 9, 8)))
    harness.give(Connected(connect.session))
    harness.wait(1.0)
    again = harness.accept(2, Merge(member(HIGH), 5, 9, 8))
    assert [message.winner for message in sent(Merge, again)] == [HIGH]
    assert not of(Connect, again)
    harness.receive(connect.session, Group(5, HIGH, (member(HIGH), member(ME)), (ME,)))
    assert role(harness) is Role.CLIENT


# --- steady conditions ------------------------------------------------------------------------------------------------


def follow(harness: NodeHarness, reports: list[tuple[Condition, bool]]) -> ConditionList:
    """Return the list of the conditions of a node, which adds its reports to `reports`."""
    return ConditionList(lambda condition, begins: reports.append((condition, begins)), lambda: harness.now)


def test_joiner_that_tries_again_and_again_is_one_condition_of_the_master() -> None:
    harness = leading()
    reports: list[tuple[Condition, bool]] = []
    listed = follow(harness, reports)
    for number in range(2, 14):
        join_without_confirming(harness, number, join(LOW))
        for _ in range(40):
            stay(harness, 0.25)
            listed.update(harness.view.conditions)
    assert [(one.kind, begins) for one, begins in reports] == [(ConditionKind.MEMBER_UNREACHABLE, True)]


def test_loser_that_cannot_receive_group_has_one_steady_condition() -> None:
    harness = NodeHarness().start().become_master()
    reports: list[tuple[Condition, bool]] = []
    listed = follow(harness, reports)
    handled = 0
    for tenth in range(1200):
        if tenth % 30 == 0:
            harness.hear(advert(HIGH, Role.MASTER, term=5, members=9))
        if tenth % 25 == 0:
            harness.accept(10 + tenth, Merge(member(HIGH), 5, 9, 8))
        harness.wait(0.1)
        connects = of(Connect, harness.log)
        for connect in connects[handled:]:
            harness.give(Connected(connect.session, address="10.0.0.153"))
        handled = len(connects)
        listed.update(harness.view.conditions)
    assert [(one.kind, begins) for one, begins in reports] == [(ConditionKind.MASTER_UNREACHABLE, True)]


def test_more_failures_than_are_listed_do_not_replace_each_other() -> None:
    harness = NodeHarness(eligible=False).start()
    nodes = [f"{number:08x}" for number in range(1, 31)]
    reports: list[tuple[Condition, bool]] = []
    listed = follow(harness, reports)
    for second in range(60):
        harness.hear(*(replace(advert(LOW, Role.MASTER, term=1 + second), id=node) for node in nodes[second % 7 :: 7]))
        for connect in of(Connect, harness.log)[-1:]:
            harness.give(Disconnected(connect.session, "no answer", "timeout"))
        harness.wait(1.0)
        listed.update(harness.view.conditions)
    ended = [condition for condition, begins in reports if not begins]
    assert len(ended) <= 16, "only the first ones by id stay; others fill their places at the start"


def test_address_that_worked_stays_whatever_link_local_sources_come_later() -> None:
    harness = NodeHarness(eligible=False).start()
    announced = replace(advert(LOW, Role.MASTER), addresses=())
    harness.give(AdvertReceived(announced, "fe80::1%2"))
    connect = one(Connect, harness.hear(announced))
    harness.give(Connected(connect.session, address="fe80::1%2"))
    for source in ("fe80::a%2", "fe80::b%2", "fe80::c%2"):
        harness.give(AdvertReceived(announced, source))
    harness.give(Disconnected(connect.session, "broken", "lost"))
    assert of(Connect, harness.wait(3.0))[-1].addresses[0] == "fe80::1%2"
    assert connect.session.direction is Direction.OUTBOUND
