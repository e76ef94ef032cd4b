"""Within the life of a key, no two nodes send under one sender id (`core/leases.py`)."""

from hypothesis import given
from hypothesis import strategies as st

from pskkey.core.leases import LeaseTable
from pskkey.model import SENDER_IDS
from tests.core.situations import HIGH, LOW, OTHER


def grant(leases: LeaseTable, node: str, epoch: int = 1, **changes: object) -> tuple[int | None, bool]:
    """Ask for a lease as a node that has kept its state; return its id and whether it is blocked."""
    arguments: dict[str, object] = {
        "incarnation": "i1",
        "sends": True,
        "resumed": True,
        "before": frozenset(),
        "wanted": None,
        "live": frozenset({epoch}),
    }
    arguments.update(changes)
    return leases.grant(node, **arguments), leases.is_blocked(node, epoch)  # type: ignore[arg-type]


def test_a_node_keeps_its_id_and_another_gets_another() -> None:
    leases = LeaseTable()
    first, _ = grant(leases, "a")
    second, _ = grant(leases, "b")
    assert first != second
    assert grant(leases, "a") == (first, False)
    assert leases.in_use() == {first, second}


def test_configured_id_is_granted_unless_it_is_taken() -> None:
    leases = LeaseTable()
    assert grant(leases, "a", wanted=42) == (42, False)
    other, _ = grant(leases, "b", wanted=42)
    assert other not in (None, 42)


def test_sender_of_a_new_incarnation_waits_for_the_next_epoch() -> None:
    leases = LeaseTable()
    mine, _ = grant(leases, "a", epoch=3)
    assert grant(leases, "a", epoch=3, incarnation="i2", resumed=False) == (mine, True)
    assert leases.is_blocked("a", 3)
    assert not leases.is_blocked("a", 4)


def test_new_incarnation_of_a_member_waits_also_under_the_next_key() -> None:
    leases, nothing = LeaseTable(), frozenset[int]()
    for incarnation in ("i1", "i2"):
        leases.grant(
            "b",
            incarnation,
            sends=True,
            resumed=False,
            before=nothing,
            wanted=None,
            live=frozenset({1}),
            coming=frozenset({2}),
        )
    assert [leases.is_blocked("b", epoch) for epoch in (1, 2, 3)] == [True, True, False]


def test_node_that_does_not_send_gets_no_id_but_keeps_the_one_that_it_had() -> None:
    leases = LeaseTable()
    assert grant(leases, "a", sends=False) == (None, False)
    mine, _ = grant(leases, "a")
    assert grant(leases, "a", sends=False) == (mine, False)
    assert grant(leases, "a", sends=False, incarnation="i2", resumed=False) == (mine, True), "it may send at any moment"


def test_id_of_a_lost_node_is_free_again_only_when_its_key_is_gone() -> None:
    leases = LeaseTable()
    leases.inherit({}, frozenset(range(SENDER_IDS)), frozenset({2}))
    assert grant(leases, "b", epoch=3) == (None, False), "all taken"
    leases.review(frozenset(), frozenset({2, 3}))
    assert grant(leases, "b", epoch=3) == (None, False)
    leases.review(frozenset(), frozenset({3}))
    assert grant(leases, "b", epoch=3) == (0, False)


def test_node_that_is_away_for_a_while_gets_its_id_again_but_not_for_ever() -> None:
    leases = LeaseTable()
    mine, _ = grant(leases, "a", epoch=1)
    leases.review(frozenset(), frozenset({1}))
    assert grant(leases, "a", epoch=1) == (mine, False)
    leases.review(frozenset({"a"}), frozenset({1}))
    leases.review(frozenset(), frozenset({1}))
    leases.review(frozenset(), frozenset({1, 2}))
    assert leases.in_use() == {mine}, "what it sent may still be on its way"
    leases.review(frozenset(), frozenset({2}))
    assert leases.in_use() == frozenset()


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.booleans()), max_size=60))
def test_within_one_epoch_no_two_nodes_ever_share_an_id(steps: list[tuple[str, int, bool]]) -> None:
    leases = LeaseTable()
    holders: dict[int, str] = {}
    for node, wanted, leaves in steps:
        if leaves:
            leases.review(frozenset(), frozenset({1}))
            continue
        sender_id, _ = grant(leases, node, wanted=wanted)
        assert sender_id is not None
        assert holders.setdefault(sender_id, node) == node


# --- after a takeover -------------------------------------------------------------------------------------------------


def test_after_a_takeover_a_member_that_holds_the_key_goes_on_and_one_that_does_not_waits() -> None:
    leases = LeaseTable()
    leases.inherit({"a": 4, "b": 5}, frozenset({4, 5, 9}), epochs=frozenset({2}))
    assert grant(leases, "a", epoch=2, resumed=True) == (4, False)
    assert grant(leases, "b", epoch=2, resumed=False) == (5, True)
    assert 9 in leases.in_use(), "a node that has left has sent with it"


def test_member_that_resumes_with_a_newer_key_waits_under_the_older_one() -> None:
    """It may not know what it sent with the older one."""
    leases = LeaseTable()
    leases.inherit({"a": 4}, frozenset({4}), frozenset({2, 3}))
    assert grant(leases, "a", epoch=2, resumed=True, before=frozenset({2})) == (4, True)
    assert not leases.is_blocked("a", 3)


def test_under_an_inherited_key_a_newcomer_waits_for_the_next_one() -> None:
    leases = LeaseTable()
    leases.inherit({"a": 4}, frozenset({4}), frozenset({2, 3}))
    newcomer, blocked = grant(leases, "b", epoch=2)
    assert newcomer not in (None, 4)
    assert blocked, "the former master may have given this id to a node that we do not know"
    assert leases.is_blocked("b", 3), "a key that was under way is inherited as well"
    assert leases.waiting(frozenset({"b"}), 3) == ["b"]
    assert leases.waiting(frozenset({"a"}), 3) == []
    assert not leases.is_blocked("b", 4)
    leases.review(frozenset({"a", "b"}), frozenset({4}))
    assert grant(leases, "c", epoch=4)[1] is False


def test_claimed_lease_is_blocked_under_the_other_inherited_keys() -> None:
    leases = LeaseTable()
    leases.inherit({}, frozenset({2}), frozenset({4, 5}))
    nothing: frozenset[int] = frozenset()
    granted = leases.grant(
        "b", "i1", sends=True, resumed=False, before=nothing, wanted=None, live=frozenset({4, 5}), claimed=(2, 4)
    )
    assert granted == 2
    assert [leases.is_blocked("b", epoch) for epoch in (4, 5, 6)] == [False, True, False]


def test_id_that_the_last_master_listed_twice_is_leased_to_no_node() -> None:
    """Seeds of the kind "babbler"."""
    leases = LeaseTable()
    leases.inherit({LOW: 4, HIGH: 4, OTHER: 5}, frozenset({5}), frozenset({1}))
    assert [leases.sender_id(node) for node in (LOW, HIGH, OTHER)] == [None, None, 5]
    assert leases.in_use() == {4, 5}
