"""The group replaces its key once in each `rekey_interval`, whichever nodes are master meanwhile."""

from dataclasses import replace

from pskkey.core.actions import Connect, GenerateKey, Send
from pskkey.core.events import Accepted, Connected, Disconnected, RekeyRequested, Session, Timeout
from pskkey.core.settings import DAY, Timing
from pskkey.model import MAX_KEY_AGE, Group, Handover, Heartbeat, HeldKey, KeyNewReason, KeyState, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import entry, key
from tests.core.situations import CHANGED, HIGH, LOW, acknowledge, group_of, inbound, lone_client, role, take_over

HOUR = 3600.0


def age_of(harness: NodeHarness) -> float:
    """Return the seconds for which the current key of a node has been the current one, as the node knows it."""
    current = harness.view.current
    assert current is not None
    return harness.now - current.since


def joined(harness: NodeHarness, *, key_age: int) -> Session:
    """Let a node join LOW, whose key is `key_age` seconds old; return the session."""
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    harness.give(Connected(connect.session))
    harness.receive(connect.session, replace(group_of(1, LOW, ME), key_age=key_age))
    harness.receive(connect.session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)))
    return connect.session


def rekeys_within(harness: NodeHarness, seconds: float) -> int:
    """Let time pass, and return how many keys the node makes."""
    before = harness.keys
    harness.wait(seconds)
    return harness.keys - before


# --- the age of a key -------------------------------------------------------------------------------------------------


def test_master_makes_one_key_a_day_by_default() -> None:
    harness = NodeHarness(timing=Timing(heartbeat_interval=60.0, dead_after=300.0, beacon_interval=60.0)).start()
    harness.wait(10.0)
    assert role(harness) is Role.MASTER
    assert Timing().rekey_interval == DAY == 24 * HOUR
    assert rekeys_within(harness, 21 * HOUR) == 0
    assert rekeys_within(harness, 3.1 * HOUR) == 1
    assert rekeys_within(harness, 21 * HOUR) == 0


def test_node_learns_the_age_of_the_key_when_it_joins() -> None:
    harness = NodeHarness().start()
    joined(harness, key_age=50_000)
    assert age_of(harness) == 50_000


def test_new_master_replaces_the_key_by_its_age_and_not_by_the_time_of_its_own_join() -> None:
    harness = NodeHarness(timing=Timing(rekey_interval=1000.0)).start()
    take_over(harness, joined(harness, key_age=890))
    assert rekeys_within(harness, 5.0) == 0
    assert rekeys_within(harness, 110.0) == 1


def test_master_of_another_version_that_states_no_age_does_not_make_the_key_younger() -> None:
    harness = NodeHarness().start()
    session = joined(harness, key_age=50_000)
    harness.receive(session, group_of(1, LOW, ME, HIGH))
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)))
    assert age_of(harness) == 50_000


def test_age_belongs_only_to_the_key_state_that_follows_its_group() -> None:
    harness = NodeHarness().start()
    session = joined(harness, key_age=50_000)
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901), entry(2, 902, send=True))))
    assert age_of(harness) == 0


def test_master_states_the_age_of_its_key_to_joiners_and_members() -> None:
    harness = NodeHarness().start().become_master()
    since = age_of(harness)
    harness.wait(100.0 - since)
    assert {group.key_age for group in sent(Group, harness.accept(1, join(LOW)))} == {100}
    harness.wait(1.0)
    to_both = sent(Group, harness.accept(2, join(HIGH)))
    assert (len(to_both), {group.key_age for group in to_both}) == (3, {101})


def test_key_of_another_group_keeps_its_own_age_while_the_node_sends_with_it() -> None:
    harness, session = lone_client()
    harness.wait(1.0)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Connected(retry.session))
    harness.receive(retry.session, replace(group_of(2, LOW, ME), key_age=50_000))
    harness.receive(retry.session, KeyState(1, frozenset({0, 1}), (entry(9, 909),)))
    assert harness.view.sends_former_key
    assert age_of(harness) == 1.0


def test_former_key_ends_with_a_group_that_has_the_age_of_the_next_one() -> None:
    harness = NodeHarness(timing=Timing(rekey_interval=0.0)).start().become_master()
    for _ in range(3):
        harness.give(RekeyRequested(KeyNewReason.OPERATOR))
        harness.wait(3.0)
    current = harness.view.current
    assert current is not None
    harness.accept(1, join(HIGH))
    harness.give(Disconnected(inbound(1), "reset"))  # it is awaited, so nobody may leave a former key yet
    held = (HeldKey(1, key(777).fingerprint, send=True),)
    harness.accept(2, replace(join(LOW, held=held), incarnation=LOW))
    acknowledge(harness, 2, current.epoch)
    for _ in range(20):
        harness.wait(0.5)
        harness.receive(inbound(2), Heartbeat())
    messages = [a.message for a in of(Send, harness.log) if a.session == inbound(2)]
    ends = next(n for n, m in enumerate(messages) if isinstance(m, KeyState) and any(e.send for e in m.entries))
    group = messages[ends - 1]
    assert isinstance(group, Group)
    assert group.key_age > 0


def test_largest_age_is_passed_on_as_it_is() -> None:
    """Else a master that states it could make the next one fail."""
    harness = NodeHarness(timing=Timing(rekey_interval=0.0)).start()
    take_over(harness, joined(harness, key_age=MAX_KEY_AGE))
    harness.wait(5.0)
    assert {group.key_age for group in sent(Group, harness.accept(10, join(HIGH)))} == {MAX_KEY_AGE}


# --- changes of the master, restarts and sleep ------------------------------------------------------------------------


def test_interval_does_not_begin_anew_when_the_daemon_restarts() -> None:
    timing = Timing(rekey_interval=1000.0)
    harness = NodeHarness(timing=timing).start().become_master()
    made = 0
    for _ in range(30):
        harness.wait(40.0)
        made += harness.keys
        again = NodeHarness(saved=harness.node.saved_state(), timing=timing)
        again.now = harness.now + 0.5
        harness = again.start()
        again.keys = 0
    assert made == 2, "the first key, and one after the interval of 900 to 1000 s"


def test_master_that_slept_beyond_the_interval_listens_first_and_then_makes_one_key() -> None:
    harness = NodeHarness(timing=Timing(rekey_interval=1000.0)).start().become_master()
    harness.now += 50_000.0
    assert not of(GenerateKey, harness.give(Timeout()))
    assert role(harness) is Role.LISTENING
    harness.become_master()
    assert rekeys_within(harness, 800.0) <= 1
    assert harness.keys == 2


def test_member_never_makes_a_key() -> None:
    harness = NodeHarness(timing=Timing(rekey_interval=10.0)).start()
    session = joined(harness, key_age=50_000)
    for _ in range(100):
        harness.wait(0.5)
        harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)))
    assert harness.keys == 0


def test_shorter_interval_applies_at_once() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(100.0)
    harness.give(replace(CHANGED, timing=Timing(rekey_interval=50.0)))
    assert harness.keys == 2


def test_master_that_is_handed_a_key_of_known_age_goes_on_counting() -> None:
    harness = NodeHarness(timing=Timing(rekey_interval=1000.0)).start()
    session = joined(harness, key_age=500)
    harness.receive(session, Handover(member(ME), 2, (member(LOW), member(ME))))
    assert role(harness) is Role.MASTER
    harness.give(Accepted(inbound(1), "10.0.0.1"))
    held = (HeldKey(1, key(901).fingerprint, send=True),)
    harness.receive(inbound(1), join(LOW, held=held))
    assert rekeys_within(harness, 380.0) == 0
    assert rekeys_within(harness, 130.0) == 1
