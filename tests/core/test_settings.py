"""The operator changes the settings or the addresses of a running node."""

from dataclasses import replace

from pskkey.core.actions import Advertise
from pskkey.core.events import AddressesChanged
from pskkey.core.settings import Timing
from pskkey.model import Group, Heartbeat, Join, Times
from tests.core.harness import NodeHarness, join, of, sent
from tests.core.situations import CHANGED


def test_client_sends_changed_settings_to_its_master_and_advertises() -> None:
    harness = NodeHarness().start()
    harness.become_client()
    actions = harness.give(CHANGED)
    (sent_join,) = sent(Join, actions)
    assert (sent_join.member.name, sent_join.member.priority, sent_join.member.addresses) == ("new", 7, ("10.0.0.85",))
    assert of(Advertise, actions)
    (sent_join,) = sent(Join, harness.give(AddressesChanged(("10.0.0.9",))))
    assert (sent_join.member.name, sent_join.member.addresses) == ("new", ("10.0.0.9",))


def test_master_sends_changed_settings_to_its_members() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("99999999"))
    harness.wait(0.5)
    groups = sent(Group, [*harness.give(CHANGED), *harness.wait(0.2)])
    assert next(m.priority for m in groups[-1].members if m.name == "new") == 7


def test_unchanged_addresses_are_not_announced() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("99999999"))
    harness.wait(0.5)
    assert not sent(Group, [*harness.give(AddressesChanged(("10.0.0.85",))), *harness.wait(0.4)])
    assert sent(Group, [*harness.give(AddressesChanged(("10.0.0.9",))), *harness.wait(0.4)])


def test_changed_times_apply_at_once() -> None:
    harness = NodeHarness().start().become_master()
    before = harness.keys
    harness.give(replace(CHANGED, timing=Timing(rekey_interval=10.0, heartbeat_interval=0.1, dead_after=0.5)))
    harness.wait(11.0)
    assert harness.keys == before + 1
    harness.accept(1, replace(join("99999999"), times=Times(0.1, 0.5)))
    assert len(sent(Heartbeat, harness.wait(0.45))) in (4, 5)
    assert "99999999" in harness.members
    harness.wait(0.1)
    assert "99999999" not in harness.members
