"""The orders of the election are total: a tie or a circle would make two nodes both the better one."""

from hypothesis import given
from hypothesis import strategies as st

from pskkey.core.rank import candidate_order, merge_order, succession
from pskkey.model import Member

IDS = st.text("0123456789abcdef", min_size=8, max_size=8)
MEMBERS = st.builds(
    Member,
    id=IDS,
    name=st.just("n"),
    addresses=st.just(("10.0.0.1",)),
    port=st.just(11111),
    priority=st.integers(0, 255),
    eligible=st.booleans(),
)


@given(MEMBERS, MEMBERS)
def test_two_nodes_are_ordered_one_way_and_tie_only_with_themselves(a: Member, b: Member) -> None:
    less, greater = candidate_order(a) < candidate_order(b), candidate_order(b) < candidate_order(a)
    same = (a.id, a.priority, a.eligible) == (b.id, b.priority, b.eligible)
    assert (less, greater) == (False, False) if same else less != greater


@given(MEMBERS, MEMBERS)
def test_an_eligible_node_is_better_then_a_higher_priority_then_a_lower_id(a: Member, b: Member) -> None:
    if a.eligible != b.eligible:
        better = a if a.eligible else b
    elif a.priority != b.priority:
        better = max(a, b, key=lambda m: m.priority)
    else:
        better = min(a, b, key=lambda m: m.id)
    assert candidate_order(min(a, b, key=candidate_order)) == candidate_order(better)


@given(st.lists(MEMBERS, unique_by=lambda m: m.id), st.randoms())
def test_the_succession_does_not_depend_on_the_order_of_hearing(members: list[Member], random: object) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    master = members[0].id if members else ""
    order = succession(shuffled, master)
    assert order == succession(members, master)
    assert set(order) == {m.id for m in members if m.eligible and m.id != master}


@given(
    st.tuples(st.integers(1, 300), st.integers(0, 255), IDS), st.tuples(st.integers(1, 300), st.integers(0, 255), IDS)
)
def test_of_two_masters_the_one_that_serves_more_stays(a: tuple[int, int, str], b: tuple[int, int, str]) -> None:
    first = min(a, b, key=lambda side: merge_order(*side))
    if a[0] != b[0]:
        assert first[0] == max(a[0], b[0])
    elif a[1] != b[1]:
        assert first[1] == max(a[1], b[1])
    else:
        assert first[2] == min(a[2], b[2])
