"""The rules of the election, one by one, at the interface of a single node."""

from itertools import pairwise

import pytest

from pskkey.core.actions import Connect, Disconnect, GenerateKey
from pskkey.core.events import Connected, Disconnected, Started
from pskkey.core.notices import Fenced, JoinFailed, MasterLost
from pskkey.core.settings import Timing
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    Join,
    KeyAck,
    KeyState,
    Role,
)
from tests.core.harness import ME, NodeHarness, advert, advertised, member, of, one, sent
from tests.core.keys import key

LOW, HIGH = "11111111", "99999999"


def role(harness: NodeHarness) -> Role:
    return harness.view.role


# --- listening --------------------------------------------------------------------------------------------------


def test_alone_it_becomes_master_after_the_discovery_window_with_a_fresh_key() -> None:
    harness = NodeHarness().start()
    assert role(harness) is Role.LISTENING
    harness.wait(0.99)
    assert role(harness) is Role.LISTENING
    actions = harness.wait(0.02)
    assert role(harness) is Role.MASTER
    assert harness.view.term == 1
    assert one(GenerateKey, actions)
    assert advertised(actions)[-1] is Role.MASTER


def test_a_better_candidate_gets_one_claim_step_and_two_get_two() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.LISTENING), advert("22222222", Role.LISTENING), advert(HIGH, Role.LISTENING))
    harness.wait(1.59)
    assert role(harness) is Role.LISTENING
    harness.wait(0.02)
    assert role(harness) is Role.MASTER


@pytest.mark.parametrize(
    ("says", "claims_after"), [((Role.LISTENING,), 1.58), ((Role.LISTENING, Role.CLIENT), 1.3)], ids=str
)
def test_who_would_claim_in_the_moment_in_which_a_better_candidate_does_lets_it_be_first(
    says: tuple[Role, ...], claims_after: float
) -> None:
    """They were started one after the other: the better one's discovery window ends a little before ours and a step.

    One that does not listen any more will not claim, and is given its step only.
    """
    harness = NodeHarness().start()
    harness.wait(0.28)
    harness.hear(*(advert(LOW, role) for role in says))
    harness.wait(claims_after - 0.29)
    assert role(harness) is Role.LISTENING
    harness.wait(0.02)
    assert role(harness) is Role.MASTER


def test_a_master_that_is_heard_of_before_the_start_is_joined_once() -> None:
    """mDNS runs a moment before the node is told to start."""
    harness = NodeHarness()
    assert not of(Connect, harness.hear(advert(LOW, Role.MASTER))), "it has not asked yet whether that one is there"
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    assert not of(Connect, harness.give(Started()))
    assert role(harness) is Role.JOINING
    harness.hear(advert(LOW, Role.MASTER, members=2))
    harness.give(Connected(session))
    assert of(Connect, harness.log) == [one(Connect, harness.log)]


def test_a_higher_priority_beats_a_lower_id() -> None:
    harness = NodeHarness(priority=200).start()
    harness.hear(advert(LOW, Role.LISTENING, priority=100))
    harness.wait(1.01)
    assert role(harness) is Role.MASTER


def test_who_is_not_eligible_listens_for_ever_and_joins_when_a_master_comes() -> None:
    harness = NodeHarness(eligible=False).start()
    harness.wait(600.0)
    assert role(harness) is Role.LISTENING
    assert of(Connect, harness.hear(advert(LOW, Role.MASTER)))


def test_a_masters_advert_is_followed_at_once() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    assert (connect.peer, connect.addresses) == (LOW, ("10.0.0.17",))
    assert role(harness) is Role.JOINING


def test_of_several_masters_the_one_that_serves_more_is_joined_first() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.MASTER, members=2))
    session = one(Connect, harness.log).session
    harness.hear(advert(HIGH, Role.MASTER, members=5), advert("22222222", Role.MASTER, members=3))
    again = one(Connect, harness.give(Disconnected(session, "refused")))
    assert again.peer == HIGH


# --- joining ----------------------------------------------------------------------------------------------------


def test_joining_says_who_we_are_and_group_makes_us_a_client() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=4)))
    said = sent(Join, harness.give(Connected(connect.session)))
    assert [(j.group, j.member.id, j.held) for j in said] == [("g", ME, ())]
    harness.receive(connect.session, Group(4, LOW, (member(LOW), member(ME)), (ME,)))
    assert role(harness) is Role.CLIENT
    assert harness.view.term == 4


def test_a_failed_join_holds_down_longer_each_time_but_is_tried_again_for_ever() -> None:
    harness = NodeHarness(eligible=False).start()
    harness.hear(advert(LOW, Role.MASTER))
    tries = []
    for _ in range(10):
        tries.append(harness.now)
        session = of(Connect, harness.log)[-1].session
        harness.give(Disconnected(session, "connection refused"))
        while len(of(Connect, harness.log)) == len(tries):
            harness.wait(0.25)
            harness.hear(advert(LOW, Role.MASTER))  # its beacon
    gaps = [round(b - a) for a, b in pairwise(tries)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_connection_that_never_answers_is_given_up() -> None:
    harness = NodeHarness(eligible=False).start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    actions = harness.wait(10.0)
    assert session in [d.session for d in of(Disconnect, actions)]
    assert of(JoinFailed, actions)


def test_a_welcome_from_somebody_else_than_the_one_we_asked_is_not_taken() -> None:
    harness = NodeHarness().start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    harness.give(Connected(session))
    actions = harness.receive(session, Group(1, HIGH, (member(HIGH), member(ME)), (ME,)))
    assert role(harness) is not Role.CLIENT
    assert of(Fenced, actions)


# --- client -----------------------------------------------------------------------------------------------------


def test_a_client_answers_heartbeats_at_most_twice_in_the_interval() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    for _ in range(4):
        assert not sent(Heartbeat, harness.wait(0.49))
        assert sent(Heartbeat, harness.receive(session, Heartbeat()))
    flood = [sent(Heartbeat, [*harness.receive(session, Heartbeat()), *harness.wait(0.01)]) for _ in range(100)]
    assert 3 <= len([beats for beats in flood if beats]) <= 4


def test_a_client_beats_unasked_and_misses_its_master_after_one_and_a_half_seconds() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    assert not sent(Heartbeat, harness.wait(0.74))
    assert len(sent(Heartbeat, harness.wait(0.7))) == 1
    harness.receive(session, Heartbeat())
    harness.wait(1.4)
    assert role(harness) is Role.CLIENT
    actions = harness.wait(0.2)
    assert of(MasterLost, actions)


def test_a_dropped_connection_is_tried_once_more_before_anything_else() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    again = one(Connect, harness.give(Disconnected(session, "reset")))
    assert again.peer == LOW
    assert again.timeout == 0.3


def test_the_first_in_the_succession_takes_over_with_the_same_key_and_a_higher_term() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, term=7)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    actions = harness.give(Disconnected(retry.session, "refused"))
    assert role(harness) is Role.MASTER
    assert harness.view.term == 8
    assert not of(GenerateKey, actions)
    current = harness.view.current
    assert current is not None
    assert current.key == key(901)


def test_the_second_in_the_succession_joins_the_first_and_asks_again_while_it_is_not_master_yet() -> None:
    harness = NodeHarness().start()
    session = harness.become_client("22222222")
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    first = one(Connect, harness.give(Disconnected(retry.session, "refused")))
    assert first.peer == "22222222"
    harness.give(Connected(first.session))
    harness.receive(first.session, ErrorMessage("not_master", "not yet"))
    again = one(Connect, harness.wait(0.1))
    assert again.peer == "22222222"
    harness.give(Disconnected(again.session, "refused"))
    assert role(harness) is Role.MASTER, "the first is dead as well: it is our turn"


@pytest.mark.parametrize(
    ("timing", "at_least", "at_most"),
    [(Timing(), 2.3, 3.0), (Timing(heartbeat_interval=5.0, dead_after=15.0), 20.3, 21.0)],
    ids=["by default", "slow heartbeats"],
)
def test_when_the_first_of_the_succession_still_has_a_master_we_listen_again(
    timing: Timing, at_least: float, at_most: float
) -> None:
    """It may notice the death a whole heartbeat after us."""
    harness = NodeHarness(eligible=False, timing=timing).start()
    session = harness.become_client("22222222")
    harness.give(Disconnected(session, "reset"))
    harness.give(Disconnected(of(Connect, harness.log)[-1].session, "no answer"))
    began = harness.now
    while role(harness) is not Role.LISTENING and harness.now < began + 60.0:
        harness.give(Connected(of(Connect, harness.log)[-1].session))
        harness.receive(of(Connect, harness.log)[-1].session, ErrorMessage("not_master", "I have one"))
        harness.wait(0.06)
    assert at_least < harness.now - began < at_most


def test_a_lower_term_is_not_followed() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(term=9)
    actions = harness.receive(session, Group(8, LOW, (member(LOW), member(ME)), (ME,)))
    assert of(Fenced, actions)
    assert harness.view.term == 9


def test_a_handover_to_us_makes_us_master_and_one_to_another_sends_us_there() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.receive(session, Handover(member(ME), 2, (member(LOW, sender_id=0), member(ME, sender_id=1))))
    assert role(harness) is Role.MASTER
    assert harness.view.term == 2

    other = NodeHarness().start()
    session = other.become_client(HIGH)
    connect = one(Connect, other.receive(session, Handover(member(HIGH), 2)))
    assert connect.peer == HIGH


def test_a_client_acknowledges_a_new_epoch_once() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    state = KeyState(1, frozenset({0, 1}), harness.node.key_state().entries)
    assert sent(KeyAck, harness.log) == [KeyAck(1)]
    assert not sent(KeyAck, harness.receive(session, state))
