"""A node joins a master, and the master welcomes or refuses the joiner."""

from itertools import pairwise

import pytest

from pskkey.core.actions import Connect, Disconnect
from pskkey.core.events import Connected, Disconnected
from pskkey.core.notices import Fenced, JoinFailed
from pskkey.model import ErrorMessage, Group, HeldKey, Join, KeyRequest, KeyResponse, KeyState, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, refusal, sent
from tests.core.keys import key
from tests.core.situations import HIGH, LOW

# --- the joiner -------------------------------------------------------------------------------------------------------


def test_joiner_sends_its_join_and_becomes_a_client_with_the_group() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=4)))
    joins = sent(Join, harness.give(Connected(connect.session)))
    assert [(j.group, j.member.id, j.held) for j in joins] == [("g", ME, ())]
    harness.receive(connect.session, Group(4, LOW, (member(LOW), member(ME)), (ME,)))
    assert harness.view.role is Role.CLIENT
    assert harness.view.term == 4


@pytest.mark.parametrize(
    ("refused", "expected"), [(True, [1, 2, 4, 8, 16, 32, 60, 60, 60]), (False, [1, 2, 4, 5, 5, 5, 5, 5, 5])]
)
def test_hold_down_doubles_with_each_failed_join_up_to_its_limit(refused: bool, expected: list[int]) -> None:
    """A path may be mended at any time, but a refusal stays."""
    harness = NodeHarness(eligible=False).start()
    harness.hear(advert(LOW, Role.MASTER))
    tries = []
    for _ in range(10):
        tries.append(harness.now)
        session = of(Connect, harness.log)[-1].session
        if refused:
            harness.give(Connected(session))
            harness.receive(session, ErrorMessage("group_full", "the group has 2 members"))
        else:
            harness.give(Disconnected(session, "no answer", "timeout"))
        while len(of(Connect, harness.log)) == len(tries):
            harness.wait(0.25)
            harness.hear(advert(LOW, Role.MASTER))  # its beacon
    gaps = [round(b - a) for a, b in pairwise(tries)]
    assert gaps == expected


def test_join_without_an_answer_ends_and_is_reported() -> None:
    harness = NodeHarness(eligible=False).start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    actions = harness.wait(10.0)
    assert session in [d.session for d in of(Disconnect, actions)]
    assert of(JoinFailed, actions)


def test_group_of_another_node_than_the_one_that_was_asked_is_not_followed() -> None:
    harness = NodeHarness().start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    harness.give(Connected(session))
    actions = harness.receive(session, Group(1, HIGH, (member(HIGH), member(ME)), (ME,)))
    assert harness.view.role is not Role.CLIENT
    assert of(Fenced, actions)


# --- the node that is asked -------------------------------------------------------------------------------------------


def test_joiner_gets_the_group_and_then_the_keys() -> None:
    harness = NodeHarness().start().become_master()
    actions = harness.accept(1, join(LOW))
    group, state = sent(Group, actions)[0], sent(KeyState, actions)[0]
    assert [m.id for m in group.members] == [ME, LOW]
    assert group.succession == (LOW,)
    assert state.sender_id is None, "no session manager of it sends"
    assert [e.send for e in state.entries] == [True]
    kinds = [type(m) for m in sent(object, actions)]
    assert kinds.index(Group) < kinds.index(KeyState)


def test_joiner_of_another_group_is_refused() -> None:
    harness = NodeHarness().start().become_master()
    wrong = Join("other", member(LOW), "i", 0, (), sender=False, lease=None)
    assert refusal(harness.accept(1, wrong)) == "wrong_group"


def test_node_that_is_not_master_refuses_a_join_but_serves_the_key_that_it_holds() -> None:
    harness = NodeHarness().start()
    assert refusal(harness.accept(1, join(LOW))) == "not_master"
    assert refusal(harness.accept(2, KeyRequest())) == "no_key"
    harness.become_client()
    assert sent(KeyResponse, harness.accept(3, KeyRequest())) == [KeyResponse(key(901))]


def test_joiner_with_a_foreign_key_causes_a_new_key_above_both() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW, held=(HeldKey(17, "ffffffffffffffff", send=True),)))
    harness.wait(1.0)
    coming = harness.view.next
    assert coming is not None
    assert coming.epoch == 18
