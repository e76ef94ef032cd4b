"""`[key] rekey_on_leave`: a node that has left for good does not know the key of the group for long."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect
from pskkey.core.departures import Departures
from pskkey.core.events import Connected, Disconnected, RekeyRequested, Session, SettingsChanged, SwitchoverRequested
from pskkey.core.keyring import Keyring
from pskkey.core.notices import NodesLeft
from pskkey.core.settings import Settings, Timing
from pskkey.model import Group as GroupMessage
from pskkey.model import Handover, Heartbeat, HeldKey, KeyNewReason, KeyState, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import entry, key
from tests.core.situations import (
    CHANGED,
    HIGH,
    LOW,
    OTHER,
    acknowledge,
    fail_until_master,
    group_of,
    inbound,
    role,
    take_over,
)

ON = Timing(rekey_on_leave=True)
LEFT_AFTER = ON.left_after
"""Seconds for which a node is away before it has left."""
SPACING = ON.departure_spacing


class Group:
    """A master and its members, which are alive until they leave."""

    def __init__(self, timing: Timing = ON, max_members: int = 1024) -> None:
        self.harness = NodeHarness(timing=timing, max_members=max_members).start().become_master()
        self.numbers: dict[str, int] = {}
        self.accepted = 0
        self.reports: list[str] = []

    def join(self, *nodes: str) -> None:
        """Let nodes join, with the current key if they were members before."""
        for node in nodes:
            self.accepted += 1
            self.numbers[node] = self.accepted
            self.harness.accept(self.accepted, replace(join(node), incarnation=node))

    def leave(self, *nodes: str) -> None:
        """Let nodes stop."""
        for node in nodes:
            self.harness.give(Disconnected(inbound(self.numbers.pop(node)), "connection closed"))

    def wait(self, seconds: float) -> int:
        """Let time pass. Each member sends heartbeats and acknowledges keys. Return how many keys the master makes."""
        before, end = self.harness.keys, self.harness.now + seconds
        while self.harness.now < end:
            for number in self.numbers.values():
                self.harness.receive(inbound(number), Heartbeat())
                acknowledge(self.harness, number, self.harness.view.keys[-1].epoch)
            actions = self.harness.wait(min(0.5, end - self.harness.now))
            self.reports += [notice.nodes for notice in of(NodesLeft, actions)]
        return self.harness.keys - before


def calm_group(*nodes: str) -> Group:
    """Return a group whose key is older than `departure_spacing`."""
    group = Group()
    group.join(*nodes)
    assert group.wait(SPACING + 1.0) == 0
    return group


def id_of(number: int) -> str:
    """Return a node id."""
    return f"{number:08x}"


# --- a node leaves ----------------------------------------------------------------------------------------------------


def test_node_that_leaves_causes_no_key_by_default() -> None:
    group = Group(Timing())
    group.join(LOW, HIGH)
    group.wait(SPACING)
    group.leave(LOW)
    assert group.wait(2 * SPACING) == 0


def test_node_that_stops_causes_one_key_when_its_time_to_return_is_over() -> None:
    group = calm_group(LOW, HIGH)
    group.leave(LOW)
    assert group.wait(LEFT_AFTER - 0.1) == 0
    assert group.wait(0.2) == 1
    assert group.reports == [LOW]
    assert group.wait(10 * SPACING) == 0


def test_node_that_falls_silent_causes_one_key() -> None:
    group = calm_group(LOW, HIGH)
    del group.numbers[LOW]
    assert group.wait(ON.dead_after + LEFT_AFTER + 0.6) == 1
    assert group.wait(10 * SPACING) == 0


def test_node_that_reconnects_or_restarts_in_time_causes_no_key() -> None:
    group = calm_group(LOW, HIGH)
    for away in (0.0, 0.5, LEFT_AFTER - 0.1):
        group.leave(LOW)
        group.wait(away)
        group.join(LOW)
        assert group.wait(SPACING + 10.0) == 0


def test_node_that_returns_after_its_time_does_not_end_the_reason() -> None:
    group = Group()
    group.join(LOW, HIGH)
    group.leave(LOW)
    assert group.wait(SPACING / 2) == 0
    group.join(LOW)
    assert group.wait(SPACING) == 1
    assert group.wait(10 * SPACING) == 0


def test_newcomer_causes_no_key() -> None:
    group = calm_group(LOW)
    group.join(HIGH, OTHER)
    assert group.wait(2 * SPACING) == 0


# --- the number of keys -----------------------------------------------------------------------------------------------


def test_a_hundred_nodes_that_leave_within_a_minute_cause_two_keys() -> None:
    nodes = [id_of(number) for number in range(1, 101)]
    group = calm_group(*nodes, HIGH)
    made = 0
    for node in nodes:
        group.leave(node)
        made += group.wait(0.5)
    made += group.wait(3 * SPACING)
    assert made == 2
    assert group.reports[0] == nodes[0]
    assert group.reports[1].endswith(" more")


def test_node_that_leaves_again_and_again_causes_one_key_a_minute_at_most() -> None:
    group = calm_group(LOW, HIGH)
    minutes, made = 20, 0
    for _ in range(minutes * 4):
        group.leave(LOW)
        made += group.wait(10.0)
        group.join(LOW)
        made += group.wait(5.0)
    assert 0 < made <= minutes


def test_changes_of_the_master_do_not_let_a_key_come_earlier() -> None:
    harness = NodeHarness(timing=ON).start()
    take_over(harness, harness.become_client(HIGH))  # LOW, the last master, does not return, nor does HIGH
    since = harness.now
    harness.wait(SPACING - 1.0)
    assert harness.keys == 0
    harness.wait(2.0)
    assert harness.keys == 1
    assert harness.now - since < SPACING + 2.0


def test_report_names_a_few_nodes_and_counts_the_others() -> None:
    group = Group()
    for number in range(1, 19):
        group.join(id_of(number))
        group.wait(0.5)
        group.leave(id_of(number))
        group.wait(1.0)
    group.wait(SPACING)
    assert group.reports == [f"{id_of(1)}, {id_of(2)}, {id_of(3)} and 15 more"]


def test_number_of_nodes_that_are_away_has_a_bound() -> None:
    settings = Settings("g", member(ME), "i", "n", max_members=6, timing=ON)
    keyring = Keyring(settings)
    keyring.adopt(KeyState(0, frozenset(), (entry(1, 901, send=True),)), 0.0)
    departures = Departures(settings, keyring, ())
    for number in range(1, 100):
        departures.observe_members(frozenset({id_of(number)}), 0.01 * number)
    departures.observe_members(frozenset(), LEFT_AFTER + 1.0)
    assert departures.describe_left() == f"{id_of(94)}, {id_of(95)}, {id_of(96)} and 2 more"


# --- the key that serves it -------------------------------------------------------------------------------------------


def test_newer_key_that_comes_for_another_reason_is_enough() -> None:
    group = calm_group(LOW, HIGH)
    group.leave(LOW)
    group.harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert group.wait(3 * SPACING) == 0
    assert group.harness.keys == 2


def test_key_that_the_node_got_before_it_left_is_not_enough() -> None:
    group = calm_group(LOW, HIGH)
    group.harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    group.harness.wait(0.2)  # LOW has received the key that is being distributed
    group.leave(LOW)
    assert group.wait(SPACING + LEFT_AFTER + 2.0) == 1


# --- a change of the master -------------------------------------------------------------------------------------------


def listen_to(harness: NodeHarness, session: Session, seconds: float) -> None:
    """Let a member hear its master for a while."""
    for _ in range(int(2 * seconds)):
        harness.wait(0.5)
        harness.receive(session, Heartbeat())


def lead(harness: NodeHarness, leases: dict[str, int], seconds: float) -> None:
    """Let the members of the last master join this master, with their leases, and stay for a while."""
    held = (HeldKey(1, key(901).fingerprint, send=True),)
    numbers = range(10, 10 + len(leases))
    for number, (node, lease) in zip(numbers, leases.items(), strict=True):
        harness.accept(number, replace(join(node, held=held, incarnation=node), lease=lease))
    for _ in range(int(2 * seconds)):
        harness.wait(0.5)
        for number in numbers:
            harness.receive(inbound(number), Heartbeat())
            acknowledge(harness, number, harness.view.keys[-1].epoch)


@pytest.mark.parametrize("returns", [True, False])
def test_lost_master_has_left_unless_it_returns(returns: bool) -> None:
    harness = NodeHarness(timing=ON).start()
    session = harness.become_client(HIGH)
    listen_to(harness, session, SPACING)
    take_over(harness, session)
    lead(harness, {HIGH: 2, LOW: 0} if returns else {HIGH: 2}, 10.0)
    assert [notice.nodes for notice in of(NodesLeft, harness.log)] == ([] if returns else [LOW])
    assert harness.keys == (0 if returns else 1)


def test_no_node_has_left_after_a_handover_to_this_node_and_one_by_it() -> None:
    harness = NodeHarness(timing=ON).start()
    session = harness.become_client(HIGH)
    listen_to(harness, session, SPACING)
    harness.receive(session, Handover(member(ME), 2, (member(LOW), member(ME), member(HIGH))))
    lead(harness, {LOW: 0, HIGH: 2}, 10.0)
    harness.give(SwitchoverRequested(HIGH))
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    for members in ((ME,), (ME, LOW)):
        harness.receive(session, group_of(3, HIGH, *members))
        harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)))
    assert role(harness) is Role.CLIENT
    listen_to(harness, session, 10.0)
    harness.give(Disconnected(session, "reset"))
    fail_until_master(harness)
    lead(harness, {LOW: 2, HIGH: 0}, 10.0)
    assert harness.keys == 0


def test_next_master_knows_the_nodes_that_left_under_the_last_one() -> None:
    harness = NodeHarness(timing=ON).start()
    session = harness.become_client(HIGH, OTHER)
    group = group_of(1, LOW, ME, HIGH)
    harness.receive(session, group)  # OTHER has left
    harness.receive(session, KeyState(1, frozenset(range(4)), (entry(1, 901, send=True),)))
    listen_to(harness, session, 20.0)
    take_over(harness, session)
    lead(harness, {LOW: 0, HIGH: 2}, SPACING)
    assert one(NodesLeft, harness.log).nodes == OTHER
    assert harness.keys == 1


def test_restarted_master_knows_the_members_of_its_last_process() -> None:
    group = calm_group(LOW, HIGH)
    again = NodeHarness(saved=group.harness.node.saved_state(), timing=ON)
    again.now = group.harness.now + 0.5
    again.start().become_master()
    again.accept(1, join(LOW, held=again.view.held(), incarnation=LOW))
    for _ in range(20):
        again.wait(0.5)
        again.receive(inbound(1), Heartbeat())
    assert again.keys == 1
    assert one(NodesLeft, again.log).nodes == HIGH


def test_restarted_master_knows_that_a_node_had_left() -> None:
    group = Group()
    group.join(LOW)
    group.wait(5.0)
    group.leave(LOW)
    assert group.wait(10.0) == 0, "the key is still young"
    again = NodeHarness(saved=group.harness.node.saved_state(), timing=ON)
    again.now = group.harness.now + 0.5
    again.keys = group.harness.keys  # so that it makes other keys
    again.start().become_master()
    again.wait(10 * SPACING)
    assert again.keys == group.harness.keys + 1
    assert one(NodesLeft, again.log).nodes.startswith("a node that left under an earlier master")


def test_members_and_joiners_learn_from_group_that_a_node_has_left() -> None:
    group = Group()
    group.join(LOW, HIGH)
    assert group.wait(5.0) == 0
    before = sent(GroupMessage, group.harness.log)[-1]
    group.leave(LOW)
    group.wait(LEFT_AFTER + 1.0)
    after = sent(GroupMessage, group.harness.log)[-1]
    assert (before.known_outside, after.known_outside) == ("", group.harness.view.keys[-1].key.fingerprint)
    assert group.wait(SPACING) == 1
    assert sent(GroupMessage, group.harness.log)[-1].known_outside == ""


def test_members_hear_only_once_that_nodes_have_left() -> None:
    group = Group()
    group.join(HIGH)
    for number in range(1, 21):
        group.join(id_of(number))
        group.leave(id_of(number))
    group.wait(LEFT_AFTER - 0.1)
    before = len(sent(Heartbeat, group.harness.log))
    group.wait(1.0)
    assert len(sent(Heartbeat, group.harness.log)) - before <= 4


@pytest.mark.parametrize("is_of_this_key", [True, False])
def test_master_that_joined_after_a_node_had_left_makes_the_key(is_of_this_key: bool) -> None:
    harness = NodeHarness(timing=ON).start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    harness.give(Connected(connect.session))
    outside = key(901 if is_of_this_key else 902).fingerprint
    harness.receive(connect.session, replace(group_of(1, LOW, ME, HIGH), known_outside=outside))
    harness.receive(connect.session, KeyState(1, frozenset({0, 1, 2}), (entry(1, 901, send=True),)))
    harness.receive(connect.session, Handover(member(ME), 2, (member(LOW), member(ME), member(HIGH))))
    lead(harness, {LOW: 0, HIGH: 2}, 3 * SPACING)
    assert harness.keys == is_of_this_key


# --- reload -----------------------------------------------------------------------------------------------------------


def test_setting_applies_from_the_reload_on() -> None:
    group = Group(Timing())
    group.join(LOW, HIGH, OTHER, id_of(7))
    group.wait(SPACING + 1.0)

    def turn(timing: Timing) -> None:
        changed: SettingsChanged = replace(CHANGED, timing=timing)
        group.harness.give(changed)

    group.leave(LOW)
    assert group.wait(10.0) == 0
    turn(ON)
    assert group.wait(10.0) == 0
    group.leave(HIGH)
    assert group.wait(10.0) == 1
    group.wait(SPACING)
    group.leave(OTHER)
    turn(Timing())
    assert group.wait(1.0) == 0
    turn(ON)
    assert group.wait(2 * SPACING) == 0
    group.leave(id_of(7))
    turn(Timing())
    assert group.wait(2 * SPACING) == 0
