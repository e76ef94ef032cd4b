"""An advert that answers our challenge is a proof; any other advert is a hint, because it may be a recorded one."""

from dataclasses import replace

from pskkey.core.actions import Advertise, Connect, Disconnect
from pskkey.core.events import Connected, Disconnected, Session
from pskkey.core.freshness import ANSWER_FOR, ANSWER_SHARE, ANSWER_SPACING, CHALLENGE_EVERY, MAX_NOTED, PROVEN_FOR
from pskkey.core.notices import JoinFailed, OwnIdElsewhere, TwoMasters
from pskkey.model import MAX_ANSWERS, Advert, ErrorMessage, Join, Role
from tests.core.harness import ME, NodeHarness, advert, of, one, sent
from tests.core.situations import HIGH, LOW, OTHER

LONG_DEAD = ("0000000a", "0000000b")


# --- a node that listens ----------------------------------------------------------------------------------------------


def challenge_of(harness: NodeHarness) -> str:
    """Return the challenge that the node has announced last."""
    return [a.advert.challenge for a in of(Advertise, harness.log) if a.advert.challenge][-1]


def test_a_master_that_answers_the_challenge_is_joined_at_once() -> None:
    harness = NodeHarness().start()
    assert of(Connect, harness.hear_old(advert(LOW, Role.MASTER))) == []
    proof = replace(advert(LOW, Role.MASTER), answers=("of another", challenge_of(harness)))
    assert one(Connect, harness.hear_old(proof)).peer == LOW


def test_recorded_adverts_postpone_the_claim_by_a_third_of_a_second_at_most() -> None:
    harness = NodeHarness().start()
    began, open_since = harness.now, dict[Session, float]()
    while harness.view.role is not Role.MASTER:
        harness.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
        harness.wait(0.01)  # a device without power answers nothing, so no connection is refused
        for connect in of(Connect, harness.log):
            if harness.now >= open_since.setdefault(connect.session, harness.now) + connect.timeout:
                harness.give(Disconnected(connect.session, "no answer", "timeout"))
        assert harness.now - began < 1.4, "the window of one second, 0.3 s for hints"
    assert {connect.peer for connect in of(Connect, harness.log)} <= set(LONG_DEAD)


def test_a_hint_is_followed_when_nobody_answers() -> None:
    """Where multicast passes one way only, a master never hears our challenge."""
    harness = NodeHarness().start()
    harness.hear_old(advert(LOW, Role.MASTER))
    session = one(Connect, harness.wait(1.01)).session
    assert sent(Join, harness.give(Connected(session)))


def test_a_proof_takes_the_place_of_a_hint_that_is_being_followed() -> None:
    harness = NodeHarness().start()
    harness.hear_old(advert(LONG_DEAD[0], Role.MASTER))
    hint = one(Connect, harness.wait(1.01))
    actions = harness.hear(advert(LOW, Role.MASTER))
    assert of(Disconnect, actions)[0].session == hint.session
    assert one(Connect, actions).peer == LOW


def test_an_answer_to_a_former_search_proves_nothing() -> None:
    harness = NodeHarness().start()
    old = replace(advert(HIGH, Role.MASTER), answers=(challenge_of(harness),))
    session = harness.become_client()
    harness.wait(PROVEN_FOR)
    harness.give(Disconnected(session, "reset"))
    harness.give(Disconnected(of(Connect, harness.log)[-1].session, "refused"))
    tries = len(of(Connect, harness.log))
    harness.hear_old(old)
    assert len(of(Connect, harness.log)) == tries


def test_the_challenge_is_renewed_while_a_node_listens() -> None:
    harness = NodeHarness(eligible=False).start()
    seen = set()
    for _ in range(4):
        seen.add(challenge_of(harness))
        harness.wait(CHALLENGE_EVERY)
    assert len(seen) == 4


def test_two_processes_of_a_node_have_no_challenge_in_common() -> None:
    first, second = NodeHarness(nonce="a").start(), NodeHarness(nonce="b").start()
    assert challenge_of(first) != challenge_of(second)


def test_recorded_advert_of_a_proven_master_changes_nothing() -> None:
    harness = NodeHarness(eligible=False).start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    harness.hear_old(advert(LOW, Role.LISTENING), advert(LOW, Role.CLIENT))
    harness.give(Connected(session))
    harness.receive(session, ErrorMessage("busy", "there is no place"))
    harness.hear_old(advert(LOW, Role.LISTENING))
    assert one(Connect, harness.wait(1.1)).peer == LOW


# --- a takeover -------------------------------------------------------------------------------------------------------


def test_a_recorded_advert_of_a_newer_term_does_not_end_the_succession() -> None:
    harness = NodeHarness().start()
    session = harness.become_client("22222222")
    harness.give(Disconnected(session, "reset"))
    harness.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
    first = one(Connect, harness.give(Disconnected(of(Connect, harness.log)[-1].session, "refused")))
    assert first.peer == "22222222"
    harness.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
    harness.give(Disconnected(first.session, "refused"))
    assert harness.view.role is Role.MASTER


def test_senders_of_recorded_adverts_are_asked_once_and_the_succession_goes_on() -> None:
    """They were masters before a power cut, when terms were higher than now."""
    harness = NodeHarness().start()
    session = harness.become_client("22222222", HIGH, OTHER)
    lost = one(Connect, harness.give(Disconnected(session, "reset")))
    out_of_turn = harness.hear_old(advert(HIGH, Role.MASTER, term=99), advert(OTHER, Role.MASTER, term=98))
    first = one(Connect, out_of_turn)
    assert lost.session in [d.session for d in of(Disconnect, out_of_turn)]
    second = one(Connect, harness.give(Disconnected(first.session, "refused")))
    assert {first.peer, second.peer} == {HIGH, OTHER}
    harness.hear_old(advert(HIGH, Role.MASTER, term=100))
    harness.give(Connected(second.session))
    third = one(Connect, harness.receive(second.session, ErrorMessage("not_master", "not the master")))
    assert third.peer == "22222222", "the first in the succession"


# --- a master ---------------------------------------------------------------------------------------------------------


def listener(number: int) -> Advert:
    """Return the advert of a node that listens, with a challenge of its own."""
    return replace(advert(f"{number:08x}", Role.LISTENING), challenge=f"c{number}")


def answers_in(harness: NodeHarness) -> list[tuple[str, ...]]:
    """Return the challenges that each advert of the node answers, without adverts that answer none."""
    return [a.advert.answers for a in of(Advertise, harness.log) if a.advert.answers]


def test_a_master_answers_challenges_at_once_and_few_adverts_answer_many() -> None:
    harness = NodeHarness().start().become_master()
    harness.log.clear()
    harness.hear_old(listener(1))
    assert answers_in(harness) == [("c1",)]
    harness.hear_old(*(listener(number) for number in range(2, 40)))
    harness.wait(ANSWER_SPACING + 38 // MAX_ANSWERS * ANSWER_SHARE)
    assert {c for answers in answers_in(harness) for c in answers} == {f"c{number}" for number in range(1, 40)}
    assert all(len(answers) <= MAX_ANSWERS for answers in answers_in(harness))
    assert len(answers_in(harness)) <= 1 + 39 // MAX_ANSWERS + 2


def test_challenge_of_another_master_waits_for_a_shorter_time_than_those_of_few_listening_nodes() -> None:
    for other, spacing in ((listener(2), ANSWER_SPACING), (replace(listener(2), role=Role.MASTER), ANSWER_SHARE)):
        harness = NodeHarness().start().become_master()
        harness.hear_old(listener(1))
        harness.log.clear()
        harness.hear_old(other)
        harness.wait(spacing - 0.01)
        assert not any("c2" in answers for answers in answers_in(harness))
        harness.wait(0.02)
        assert any("c2" in answers for answers in answers_in(harness))


def test_a_stranger_that_repeats_recorded_challenges_gets_few_answers() -> None:
    harness = NodeHarness().start().become_master()
    harness.log.clear()
    for number in range(2000):
        harness.hear_old(listener(number % 3))
        harness.wait(0.001)
    assert len(answers_in(harness)) <= 1 + 2.0 / ANSWER_SPACING
    assert len(answers_in(harness)) >= 2.0 / (ANSWER_SPACING + 0.05)


def test_flood_of_challenges_keeps_no_other_challenge_out_for_long() -> None:
    harness = NodeHarness().start().become_master()
    harness.hear_old(*(listener(number) for number in range(4 * MAX_NOTED)))
    harness.wait(ANSWER_FOR + 0.1)
    harness.log.clear()
    harness.hear_old(listener(999_999))
    harness.wait(ANSWER_SPACING)
    assert answers_in(harness) == [("c999999",)]


def test_proven_rival_is_asked_at_once_and_a_recorded_one_seldom_and_without_a_report() -> None:
    harness = NodeHarness().start().become_master()
    assert of(Connect, harness.hear_old(advert(LOW, Role.MASTER))) == []
    assert one(Connect, harness.hear(advert(LOW, Role.MASTER))).peer == LOW
    other = NodeHarness().start().become_master()
    for _ in range(600):
        other.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
        other.wait(0.1)
    assert 1 <= len(of(Connect, other.log)) <= 7, "in a minute"
    assert not of(TwoMasters, other.log)
    assert not of(JoinFailed, other.log)


def test_a_clone_is_reported_only_with_a_proof() -> None:
    harness = NodeHarness().start().become_master()
    recorded = advert(ME, Role.MASTER, term=3)
    assert not of(OwnIdElsewhere, harness.hear_old(recorded, advert(ME, Role.LISTENING)))
    assert of(OwnIdElsewhere, harness.hear(recorded))
