"""An advert that answers our challenge is a proof, any other one a hint: it may have been recorded long ago."""

from dataclasses import replace

from pskkey.core.actions import Advertise, Connect, Disconnect
from pskkey.core.events import AdvertReceived, Connected, Disconnected, PskChanged
from pskkey.core.freshness import ANSWER_FOR, CHALLENGE_EVERY, MAX_NOTED, PROVEN_FOR
from pskkey.core.notices import JoinFailed, OwnIdElsewhere, TwoMasters
from pskkey.model import MAX_ANSWERS, Advert, ErrorMessage, Join, PskName, Role
from tests.core.harness import ME, NodeHarness, advert, of, one, sent
from tests.core.situations import HIGH, LOW, OTHER

LONG_DEAD = ("0000000a", "0000000b")


def role(harness: NodeHarness) -> Role:
    """Return the role of the node."""
    return harness.view.role


def challenge_of(harness: NodeHarness) -> str:
    """Return the challenge that the node has announced last."""
    return [a.advert.challenge for a in of(Advertise, harness.log) if a.advert.challenge][-1]


def answers_in(harness: NodeHarness) -> list[tuple[str, ...]]:
    """Return the challenges that each advert of the node answers, but for those that answer none."""
    return [a.advert.answers for a in of(Advertise, harness.log) if a.advert.answers]


def listener(number: int) -> Advert:
    """Return the advert of a node that listens, with a challenge of its own."""
    return replace(advert(f"{number:08x}", Role.LISTENING), challenge=f"c{number}")


# --- a node that listens ----------------------------------------------------------------------------------------


def test_a_master_that_answers_the_challenge_is_joined_at_once() -> None:
    harness = NodeHarness().start()
    assert of(Connect, harness.hear_old(advert(LOW, Role.MASTER))) == []
    proof = replace(advert(LOW, Role.MASTER), answers=("of another", challenge_of(harness)))
    assert one(Connect, harness.hear_old(proof)).peer == LOW


def test_recorded_adverts_put_off_the_claim_by_a_third_of_a_second_at_most() -> None:
    harness = NodeHarness().start()
    began = harness.now
    while role(harness) is not Role.MASTER:
        harness.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
        harness.wait(0.05)  # a device without power does not refuse a connection: nothing answers
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


def test_of_a_node_that_is_proven_to_be_master_a_recorded_advert_changes_nothing() -> None:
    harness = NodeHarness(eligible=False).start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    harness.hear_old(advert(LOW, Role.LISTENING), advert(LOW, Role.CLIENT))
    harness.give(Connected(session))
    harness.receive(session, ErrorMessage("busy", "there is no place"))
    harness.hear_old(advert(LOW, Role.LISTENING))
    assert one(Connect, harness.wait(1.1)).peer == LOW


# --- a takeover -------------------------------------------------------------------------------------------------


def test_a_recorded_advert_of_a_newer_term_does_not_end_the_succession() -> None:
    harness = NodeHarness().start()
    session = harness.become_client("22222222")
    harness.give(Disconnected(session, "reset"))
    harness.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
    first = one(Connect, harness.give(Disconnected(of(Connect, harness.log)[-1].session, "refused")))
    assert first.peer == "22222222"
    harness.hear_old(*(advert(node, Role.MASTER, term=99) for node in LONG_DEAD))
    harness.give(Disconnected(first.session, "refused"))
    assert role(harness) is Role.MASTER


def test_recorded_adverts_of_members_are_asked_once_and_the_walk_goes_on() -> None:
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


# --- a master ---------------------------------------------------------------------------------------------------


def test_a_master_answers_challenges_at_once_and_few_adverts_answer_many() -> None:
    harness = NodeHarness().start().become_master()
    harness.log.clear()
    harness.hear_old(listener(1))
    assert answers_in(harness) == [("c1",)]
    harness.hear_old(*(listener(number) for number in range(2, 40)))
    harness.wait(0.3)
    assert {c for answers in answers_in(harness) for c in answers} == {f"c{number}" for number in range(1, 40)}
    assert all(len(answers) <= MAX_ANSWERS for answers in answers_in(harness))
    assert len(answers_in(harness)) <= 1 + 39 // MAX_ANSWERS + 2


def test_a_stranger_that_repeats_recorded_challenges_gets_few_answers() -> None:
    harness = NodeHarness().start().become_master()
    harness.log.clear()
    for number in range(2000):
        harness.hear_old(listener(number % 3))
        harness.wait(0.001)
    assert len(answers_in(harness)) <= 2.0 / 0.05
    assert len(answers_in(harness)) >= 2.0 / 0.25


def test_more_challenges_than_can_be_noted_cost_no_memory_and_keep_no_other_one_out_for_long() -> None:
    harness = NodeHarness().start().become_master()
    harness.hear_old(*(listener(number) for number in range(4 * MAX_NOTED)))
    harness.wait(ANSWER_FOR + 0.1)
    harness.log.clear()
    harness.hear_old(listener(999_999))
    assert answers_in(harness) == [("c999999",)]


def test_a_rival_that_answers_is_asked_at_once_and_a_recorded_one_seldom_and_in_silence() -> None:
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


# --- candidates -------------------------------------------------------------------------------------------------


def test_invented_better_candidates_put_off_a_claim_for_less_than_two_seconds() -> None:
    for me in ("55555555", "ffffffff"):
        harness = NodeHarness(me=me).start()
        began = harness.now
        for number in range(60):
            harness.hear_old(advert(f"{number:08x}", Role.LISTENING, priority=255))
        harness.wait(1.0)
        for number in range(60):
            harness.give(AdvertReceived(advert(f"{number:08x}", Role.LISTENING, priority=255)))
        while role(harness) is not Role.MASTER:
            harness.wait(0.01)
            assert harness.now - began < 1.0 + 1.81


def test_what_was_heard_under_a_former_psk_is_forgotten() -> None:
    harness = NodeHarness().start()
    harness.hear_old(*(advert(node, Role.LISTENING, priority=255) for node in (LOW, HIGH)))
    actions = harness.give(PskChanged(PskName("new"), frozenset({PskName("new")})))
    assert of(Advertise, actions), "signed with the new one"
    harness.wait(1.01)
    assert role(harness) is Role.MASTER
