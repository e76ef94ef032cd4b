"""A node without a master listens: it joins a master that it hears, or claims the mastership in the order of rank."""

import pytest

from pskkey.core.actions import Advertise, Connect, GenerateKey
from pskkey.core.events import AdvertReceived, Connected, Disconnected, PskChanged, SettingsChanged, Started, Timeout
from pskkey.core.freshness import PROVEN_FOR
from pskkey.core.loss_codes import MAY_BE_BUSY, NO_HANDSHAKE
from pskkey.core.settings import Timing
from pskkey.model import PskName, Role
from tests.core.harness import NodeHarness, advert, advertised, of, one
from tests.core.situations import HIGH, LOW, role

# --- the discovery window and the claim -------------------------------------------------------------------------------


def test_lone_node_becomes_master_with_a_fresh_key_after_the_discovery_window() -> None:
    harness = NodeHarness().start()
    assert role(harness) is Role.LISTENING
    harness.wait(0.99)
    assert role(harness) is Role.LISTENING
    actions = harness.wait(0.02)
    assert role(harness) is Role.MASTER
    assert harness.view.term == 1
    assert one(GenerateKey, actions)
    assert advertised(actions)[-1] is Role.MASTER


def test_claim_waits_one_claim_step_for_each_better_candidate() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.LISTENING), advert("22222222", Role.LISTENING), advert(HIGH, Role.LISTENING))
    harness.wait(1.59)
    assert role(harness) is Role.LISTENING
    harness.wait(0.02)
    assert role(harness) is Role.MASTER


@pytest.mark.parametrize(
    ("roles", "claims_after"), [((Role.LISTENING,), 1.58), ((Role.LISTENING, Role.CLIENT), 1.3)], ids=str
)
def test_claim_at_the_moment_of_a_better_candidates_claim_waits_for_it(
    roles: tuple[Role, ...], claims_after: float
) -> None:
    """The better candidate started later: its discovery window ends a little before our window and one step.

    A candidate that no longer listens does not claim, and gets its step only.
    """
    harness = NodeHarness().start()
    harness.wait(0.28)
    harness.hear(*(advert(LOW, one_of) for one_of in roles))
    harness.wait(claims_after - 0.29)
    assert role(harness) is Role.LISTENING
    harness.wait(0.02)
    assert role(harness) is Role.MASTER


def test_a_higher_priority_beats_a_lower_id() -> None:
    harness = NodeHarness(priority=200).start()
    harness.hear(advert(LOW, Role.LISTENING, priority=100))
    harness.wait(1.01)
    assert role(harness) is Role.MASTER


def test_ineligible_node_listens_for_ever_and_joins_a_master_that_comes() -> None:
    harness = NodeHarness(eligible=False).start()
    harness.wait(600.0)
    assert role(harness) is Role.LISTENING
    assert of(Connect, harness.hear(advert(LOW, Role.MASTER)))


def test_node_that_is_no_longer_eligible_neither_claims_nor_asks_for_its_timer_at_once() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.LISTENING))
    harness.wait(1.1)
    harness.give(SettingsChanged("n5", 100, eligible=False, max_members=9, preempt=False, timing=Timing()))
    for _ in range(20):
        deadline = harness.node.next_deadline()
        assert deadline is not None
        harness.now = max(harness.now, deadline)
        harness.give(Timeout())
    assert role(harness) is Role.LISTENING
    assert harness.now > 105.0


def test_repeated_failed_joins_do_not_postpone_the_claim_for_ever() -> None:
    harness = NodeHarness().start()
    started = harness.now
    term = 0
    while role(harness) is not Role.MASTER and harness.now < started + 60.0:
        term += 1  # each claim of a higher term ends the hold-down
        for connect in of(Connect, harness.hear(advert((LOW, "22222222")[term % 2], Role.MASTER, term=term))):
            harness.give(Disconnected(connect.session, "refused"))
        harness.wait(0.4)
    assert harness.now - started < 10.0


def claims_after(masters: int, code: str) -> float:
    """Return the seconds after which a node claims that hears proofs of `masters`. All attempts to join them fail."""
    harness = NodeHarness().start()
    began = harness.now
    proofs = [advert(f"1{number:07x}", Role.MASTER) for number in range(masters)]
    connects: list[Connect] = []
    while role(harness) is not Role.MASTER:
        assert harness.now - began < 100.0
        actions = harness.hear(*proofs)
        for connect in connects:
            actions += harness.give(Disconnected(connect.session, "failed", code))
        connects = of(Connect, [*actions, *harness.wait(0.05)])
    return harness.now - began


@pytest.mark.parametrize(("masters", "least"), [(1, 5.0), (2, 10.0), (5, 25.0), (30, 60.0)], ids=str)
def test_search_is_the_longer_the_more_masters_live_that_may_only_be_busy(masters: int, least: float) -> None:
    for code in MAY_BE_BUSY:
        assert least < claims_after(masters, code) < least + 10.0


def test_masters_whose_port_is_closed_are_not_busy() -> None:
    assert claims_after(5, "refused") < 10.0


def test_busy_masters_that_fall_silent_postpone_no_claim_after_their_proofs_have_expired() -> None:
    harness = NodeHarness().start()
    heard = [advert(f"1{number:07x}", Role.MASTER) for number in range(30)]
    harness.hear(*heard)
    harness.wait(3.0)
    harness.hear(*heard)
    began = harness.now
    while role(harness) is not Role.MASTER:
        for connect in of(Connect, harness.wait(0.05)):
            harness.give(Disconnected(connect.session, "failed", NO_HANDSHAKE))
        assert harness.now - began < PROVEN_FOR + 5.0


def test_invented_better_candidates_postpone_a_claim_for_less_than_two_seconds() -> None:
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


def test_adverts_under_a_former_psk_are_forgotten() -> None:
    harness = NodeHarness().start()
    harness.hear_old(*(advert(node, Role.LISTENING, priority=255) for node in (LOW, HIGH)))
    actions = harness.give(PskChanged(PskName("new"), frozenset({PskName("new")})))
    assert of(Advertise, actions), "signed with the new one"
    harness.wait(1.01)
    assert role(harness) is Role.MASTER


# --- a master is heard ------------------------------------------------------------------------------------------------


def test_listener_joins_a_master_at_once_on_its_advert() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    assert (connect.peer, connect.addresses) == (LOW, ("10.0.0.17",))
    assert role(harness) is Role.JOINING


def test_master_with_the_most_members_is_joined_first() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.MASTER, members=2))
    session = one(Connect, harness.log).session
    harness.hear(advert(HIGH, Role.MASTER, members=5), advert("22222222", Role.MASTER, members=3))
    again = one(Connect, harness.give(Disconnected(session, "refused")))
    assert again.peer == HIGH


def test_master_that_is_heard_before_the_start_is_joined_once() -> None:
    """mDNS runs a moment before the node starts."""
    harness = NodeHarness()
    assert not of(Connect, harness.hear(advert(LOW, Role.MASTER))), "the node has not sent a challenge yet"
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    assert not of(Connect, harness.give(Started()))
    assert role(harness) is Role.JOINING
    harness.hear(advert(LOW, Role.MASTER, members=2))
    harness.give(Connected(session))
    assert of(Connect, harness.log) == [one(Connect, harness.log)]
