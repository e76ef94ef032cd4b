"""A second node with the same id is refused and reported."""

from pskkey.core.notices import DuplicateMember, OwnIdElsewhere
from pskkey.model import Merge, Role
from tests.core.harness import ME, NodeHarness, advert, join, of, refusal
from tests.core.situations import LOW


def test_second_live_node_with_the_same_id_is_refused_and_reported() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW, incarnation="a"))
    actions = harness.accept(2, join(LOW, incarnation="b"))
    assert refusal(actions) == "duplicate_id"
    assert of(DuplicateMember, actions)
    assert refusal(harness.accept(3, join(ME))) == "duplicate_id"


def test_merge_of_a_master_with_our_id_is_refused() -> None:
    harness = NodeHarness().start().become_master()
    me = harness.view.master
    assert me is not None
    before = harness.view.term
    assert refusal(harness.accept(1, Merge(me, before, 5, 5))) == "duplicate_id"
    assert harness.view.term == before


def test_own_id_in_a_proven_advert_is_reported() -> None:
    harness = NodeHarness().start()
    assert of(OwnIdElsewhere, harness.hear(advert(ME, Role.MASTER)))


def test_own_id_in_an_unproven_advert_is_not_reported() -> None:
    harness = NodeHarness().start()
    assert not of(OwnIdElsewhere, harness.hear_old(advert(ME, Role.MASTER)))


def test_own_id_elsewhere_is_reported_once_a_minute_at_most() -> None:
    harness = NodeHarness().start()
    reports = sum(len(of(OwnIdElsewhere, harness.hear(advert(ME, r)))) for r in [*Role] * 20)
    assert reports == 1
