"""The difference between two maps of a group, and the map after it (`core/roster.py`)."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.core.rank import succession
from pskkey.core.roster import Roster, apply_change, change_between, fingerprint, sender_ids
from pskkey.model import MAX_MEMBERS, Group, GroupChange, Levels, Member, Times

IDS = [f"{n:x}" * 8 for n in range(8)]
TIMES = [Times(0.5, 1.5), Times(0.25, 2.0)]


@st.composite
def members(draw: st.DrawFn, node: str) -> Member:
    """Return one of a few entries of a node, so that two maps often have the same one."""
    return Member(
        id=node,
        name=draw(st.sampled_from(["a", "b"])),
        addresses=draw(st.sampled_from([(), ("10.0.0.1",), ("10.0.0.1", "fe80::1")])),
        port=draw(st.sampled_from([11111, 4711])),
        priority=draw(st.sampled_from([100, 200])),
        eligible=draw(st.booleans()),
        sender_id=draw(st.sampled_from([None, 0, 7])),
        acked_epoch=draw(st.sampled_from([None, 1, 2])),
        version=draw(st.sampled_from(["", "0.1.0"])),
        speaks=draw(st.sampled_from([Levels(1, 1), Levels(1, 2)])),
    )


@st.composite
def groups(draw: st.DrawFn) -> Group:
    listed = draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    entries, master = tuple(draw(members(node)) for node in listed), draw(st.sampled_from(listed))
    order = succession(entries, master)
    term, level = draw(st.integers(1, 9)), draw(st.integers(1, 2))
    return Group(term, master, entries, order, draw(st.sampled_from(TIMES)), level, 7, "0f" * 8)


NO_SENDERS: frozenset[int] = frozenset()
SENDERS = st.frozensets(st.integers(0, 3))


def as_received(group: Group) -> Group:
    """Return a group as a member has it after changes: entries by id, without acknowledgements."""
    entries = sorted((replace(entry, acked_epoch=None) for entry in group.members), key=lambda entry: entry.id)
    return replace(group, members=tuple(entries), key_age=0)


def after(base: Group | None, change: GroupChange) -> Group:
    """Return the group after a change that fits."""
    group = apply_change(base, change)
    assert group is not None
    assert group.key_age == change.key_age
    return as_received(group)


@settings(max_examples=300, deadline=None)
@given(groups(), groups(), SENDERS, SENDERS, st.booleans())
def test_change_of_any_group_to_any_other_gives_the_other(
    base: Group, group: Group, before: frozenset[int], now_used: frozenset[int], has_keys: bool
) -> None:
    former, now = Roster.of(3, base, before), Roster.of(4, group, now_used)
    change = change_between(former, "", now, has_keys=has_keys, age=0)
    assert after(base, change) == as_received(group)
    assert (change.number, change.base, change.has_keys) == (4, 3, has_keys)
    if has_keys:
        assert change.senders is None, "KEY_STATE has the sender ids"
    else:
        follows = before | sender_ids(change.members)
        assert change.senders == (None if follows == now_used else now_used)


@settings(max_examples=100, deadline=None)
@given(groups(), SENDERS)
def test_change_without_a_base_gives_the_whole_group(group: Group, senders: frozenset[int]) -> None:
    change = change_between(None, "", Roster.of(1, group, senders), has_keys=True, age=9)
    assert after(None, change) == as_received(group)
    assert (change.base, change.knows, change.left, change.key_age) == (0, "", (), 9)


@settings(max_examples=200, deadline=None)
@given(groups(), groups())
def test_change_has_only_what_differs(base: Group, group: Group) -> None:
    change = change_between(Roster.of(1, base, NO_SENDERS), "", Roster.of(2, group, frozenset()), has_keys=False, age=5)
    former = {entry.id: replace(entry, acked_epoch=None) for entry in base.members}
    now = {entry.id: replace(entry, acked_epoch=None) for entry in group.members}
    assert {entry.id: entry for entry in change.members} == {n: e for n, e in now.items() if former.get(n) != e}
    assert set(change.left) == former.keys() - now.keys()
    assert (change.master is None) == (base.master == group.master)
    assert (change.times is None) == (base.times == group.times)
    assert (change.level is None) == (base.level == group.level)
    assert change.key_age == 0, "it belongs to KEY_STATE"


@settings(max_examples=200, deadline=None)
@given(groups(), groups(), SENDERS, SENDERS)
def test_two_maps_are_as_each_other_if_the_change_between_them_is_empty(
    base: Group, group: Group, before: frozenset[int], now_used: frozenset[int]
) -> None:
    former, now = Roster.of(3, base, before), Roster.of(4, group, now_used)
    change = change_between(former, "", now, has_keys=False, age=0)
    same = base.term == group.term and base.known_outside == group.known_outside
    assert change.members or change.senders == (None if before == now_used else now_used)
    empty = GroupChange(group.term, 4, 3, known_outside=group.known_outside)
    assert now.is_as(former) == (same and change == empty)


# --- a change that does not fit ---------------------------------------------------------------------------------------

LOW, HIGH = IDS[1], IDS[7]
ENTRY = Member(LOW, "low", ("10.0.0.1",), 11111, 100, True, 3, 2, "0.1.0", Levels(1, 1))
GROUP = Group(3, LOW, (ENTRY, replace(ENTRY, id=HIGH)), (HIGH,), TIMES[0], 1)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (GROUP, GroupChange(3, 2, 1, left=(IDS[5],))),
        (None, GroupChange(3, 2, left=(HIGH,), master=LOW, times=TIMES[0], level=1)),
        (None, GroupChange(3, 2, members=(ENTRY,), times=TIMES[0], level=1)),
        (None, GroupChange(3, 2, members=(ENTRY,), master=LOW, level=1)),
        (None, GroupChange(3, 2, members=(ENTRY,), master=LOW, times=TIMES[0])),
    ],
    ids=["an unknown node has left", "one has left an empty group", "no master", "no times", "no level"],
)
def test_change_that_does_not_fit_its_base_gives_no_group(base: Group | None, change: GroupChange) -> None:
    assert apply_change(base, change) is None


def test_changes_cannot_make_a_group_of_more_members_than_one_message_may_list() -> None:
    """A node could neither send such a group as master nor save it."""
    full = replace(GROUP, members=tuple(replace(ENTRY, id=f"{n:08x}") for n in range(MAX_MEMBERS)))
    another = GroupChange(3, 2, 1, members=(replace(ENTRY, id="f" * 8),))
    assert apply_change(full, another) is None
    assert apply_change(full, replace(another, left=(f"{0:08x}",))) is not None


# --- the fingerprint --------------------------------------------------------------------------------------------------

OTHER_VALUES: dict[str, Any] = {
    "id": "0" * 8,
    "name": "other",
    "addresses": ("10.0.0.2",),
    "port": 4711,
    "priority": 101,
    "eligible": False,
    "sender_id": None,
    "acked_epoch": 9,
    "version": "0.2.0",
    "speaks": Levels(1, 2),
}


def test_fingerprint_depends_on_every_field_of_a_member_but_the_acknowledgement() -> None:
    assert OTHER_VALUES.keys() == {field.name for field in fields(Member)}
    same = set()
    for name, value in OTHER_VALUES.items():
        assert getattr(ENTRY, name) != value
        other = replace(GROUP, members=(GROUP.members[0], replace(GROUP.members[1], **{name: value})))
        if fingerprint(other) == fingerprint(GROUP):
            same.add(name)
    assert same == {"acked_epoch"}


def test_fingerprint_depends_on_all_that_a_change_may_leave_out() -> None:
    """A change from the map that JOIN names has no master, times or level if they are as in this map."""
    others: dict[str, Any] = {"master": HIGH, "times": TIMES[1], "level": 2, "members": GROUP.members[:1]}
    for name, value in others.items():
        assert fingerprint(replace(GROUP, **{name: value})) != fingerprint(GROUP), name
    always_sent: dict[str, Any] = {"term": 9, "key_age": 9, "known_outside": "0f" * 8, "succession": ()}
    for name, value in always_sent.items():
        assert fingerprint(replace(GROUP, **{name: value})) == fingerprint(GROUP), name
    assert others.keys() | always_sent.keys() == {field.name for field in fields(Group)}


def test_fingerprint_does_not_depend_on_the_order() -> None:
    assert fingerprint(replace(GROUP, members=GROUP.members[::-1])) == fingerprint(GROUP)


def test_fingerprint_has_16_hexadecimal_digits() -> None:
    assert len(fingerprint(GROUP)) == 16
    assert int(fingerprint(GROUP), 16) > 0
