"""The map of a new master begins with the members of the last one, so that they get only a few bytes."""

import gc
from dataclasses import replace

from pskkey.core.actions import Advertise
from pskkey.core.events import Disconnected
from pskkey.core.roster import fingerprint
from pskkey.core.settings import Timing
from pskkey.model import GroupChange, Heartbeat, HeldKey, KeyState
from tests.core.changing import FOURTH, THIRD, back, beat, come, enter, ids, kinds, leading, succeeding, to
from tests.core.harness import ME, join, member, of
from tests.core.keys import key
from tests.core.situations import HIGH, LOW, OTHER, client_mid_rekey, inbound, take_over


def test_member_with_the_map_of_the_lost_master_gets_a_change_without_members() -> None:
    harness, knows, group = succeeding(HIGH, THIRD)
    for number, node in enumerate((HIGH, THIRD), 1):
        (change, _) = to(inbound(number), enter(harness, number, node, knows, asked=back(node, group)))
        assert isinstance(change, GroupChange)
        assert (change.knows, change.master, change.members, change.left) == (knows, ME, (), (LOW,))
        assert (change.times, change.level) == (None, None)


def test_member_with_another_map_of_the_lost_master_gets_all_entries() -> None:
    harness, _, group = succeeding(HIGH, THIRD)
    other = fingerprint(replace(group, members=group.members[:-1]))
    (change, _) = to(inbound(1), enter(harness, 1, HIGH, other, asked=back(HIGH, group)))
    assert isinstance(change, GroupChange)
    assert (change.knows, change.left, ids(change.members)) == ("", (), {ME, HIGH, THIRD})


def test_joins_of_a_takeover_change_the_map_of_nobody() -> None:
    harness, knows, group = succeeding(HIGH, THIRD, FOURTH)
    for number, node in enumerate((HIGH, THIRD, FOURTH), 1):
        come(harness, number, node, knows, asked=back(node, group))
    beat(harness, 5)
    assert [kinds(to(inbound(n), harness.log)) for n in (1, 2, 3)] == [[GroupChange, KeyState]] * 3


def test_joiner_that_has_not_confirmed_yet_stays_in_the_map_of_a_takeover() -> None:
    """A change is sent to all at most every 0.1 s. Joiners between JOIN and confirmation must not leave the map."""
    harness, knows, group = succeeding(HIGH, THIRD)
    enter(harness, 1, HIGH, knows, asked=back(HIGH, group))
    come(harness, 2, THIRD, knows, asked=back(THIRD, group))
    harness.receive(inbound(1), Heartbeat())
    beat(harness, 1)
    assert [kinds(to(inbound(n), harness.log)) for n in (1, 2)] == [[GroupChange, KeyState]] * 2


def test_awaited_members_leave_the_map_when_their_time_is_over() -> None:
    harness, knows, group = succeeding(HIGH, THIRD)
    taken = harness.now
    come(harness, 1, HIGH, knows, asked=back(HIGH, group))
    assert harness.members == {HIGH}, "not those that are awaited"
    beat(harness, taken + Timing().comes_within - harness.now - 0.15)
    assert of(Advertise, harness.log)[-1].advert.members == 2
    assert kinds(to(inbound(1), harness.log)) == [GroupChange, KeyState]
    before = len(harness.log)
    beat(harness, 0.4)
    (change,) = to(inbound(1), harness.log[before:])
    assert isinstance(change, GroupChange)
    assert (change.left, change.members) == ((THIRD,), ())


def test_awaited_members_leave_the_map_in_time_while_a_next_key_waits() -> None:
    harness = take_over(*client_mid_rekey())
    held = (HeldKey(1, key(901).fingerprint, send=True),)
    enter(harness, 1, OTHER, asked=join(OTHER, held=held))
    harness.receive(inbound(1), Heartbeat())
    beat(harness, Timing().comes_within + 0.3)
    assert harness.view.next is not None, "OTHER has acknowledged nothing"
    assert HIGH in [node for m in to(inbound(1), harness.log) if isinstance(m, GroupChange) for node in m.left]


def test_joiner_of_a_takeover_that_never_confirms_leaves_the_map_for_good() -> None:
    harness, knows, group = succeeding(HIGH, THIRD)
    come(harness, 1, HIGH, knows, asked=back(HIGH, group))
    for number in range(2, 12):
        enter(harness, number, THIRD, asked=back(THIRD, group))
        for _ in range(10):
            harness.wait(0.2)
            harness.receive(inbound(1), Heartbeat())
    changes = [m for m in to(inbound(1), harness.log) if isinstance(m, GroupChange)]
    assert [change.left for change in changes] == [(LOW,), (THIRD,)]
    assert [change.members for change in changes] == [(), ()]


def test_member_of_a_takeover_that_goes_again_leaves_the_map_like_every_other() -> None:
    """Its entry from the lost master may be outdated by then."""
    harness, knows, group = succeeding(HIGH, THIRD)
    come(harness, 1, HIGH, knows, asked=back(HIGH, group))
    moved = replace(member(THIRD, sender_id=3), addresses=("10.0.9.9",))
    come(harness, 2, THIRD, knows, asked=replace(back(THIRD, group), member=moved))
    before = len(harness.log)
    harness.give(Disconnected(inbound(2), "reset"))
    beat(harness, 4)
    (change,) = to(inbound(1), harness.log[before:])
    assert isinstance(change, GroupChange)
    assert (change.left, change.members) == ((THIRD,), ())


def test_joiners_that_never_confirm_cost_the_master_no_memory() -> None:
    """A node behind a path that lets only small packets through joins again and again."""
    harness = leading(*(f"{n:08x}" for n in range(1, 60)))

    def join_without_end(times: int, first: int) -> int:
        for number in range(first, first + times):
            enter(harness, number, HIGH, asked=replace(join(HIGH), incarnation=f"i{number}"))
            harness.give(Disconnected(inbound(number), "reset"))
            harness.now += 0.01
        harness.log.clear()
        gc.collect()
        return sum(isinstance(thing, GroupChange) for thing in gc.get_objects())

    before = join_without_end(5, 1000)
    assert join_without_end(50, 2000) <= before + 2
