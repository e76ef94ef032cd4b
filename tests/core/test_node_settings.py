"""What an operator changes while a node runs, at the interface of a single node."""

from dataclasses import replace

from pskkey.core.actions import Action, Advertise, Connect
from pskkey.core.events import (
    AddressesChanged,
    Attached,
    Direction,
    Disconnected,
    RekeyRequested,
    Session,
    SettingsChanged,
)
from pskkey.core.notices import SenderIdTaken, SuiteChanged
from pskkey.core.settings import Timing
from pskkey.model import Group, Handover, Heartbeat, Join, KeyAck, KeyNewReason, KeyWatch, Process, Role, Suite
from tests.core.harness import NodeHarness, join, of, one, refusal, sent

CHANGED = SettingsChanged("new", 7, eligible=True, max_members=1024, preempt=False, timing=Timing())


def test_a_client_tells_its_master_and_all_who_listen() -> None:
    harness = NodeHarness().start()
    harness.become_client()
    actions = harness.give(CHANGED)
    (told,) = sent(Join, actions)
    assert (told.member.name, told.member.priority, told.member.addresses) == ("new", 7, ("10.0.0.85",))
    assert of(Advertise, actions)
    (told,) = sent(Join, harness.give(AddressesChanged(("10.0.0.9",))))
    assert (told.member.name, told.member.addresses) == ("new", ("10.0.0.9",))


def test_a_master_tells_its_members() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("99999999"))
    harness.wait(0.5)
    told = sent(Group, [*harness.give(CHANGED), *harness.wait(0.2)])
    assert next(m.priority for m in told[-1].members if m.name == "new") == 7


def test_the_addresses_that_it_has_already_are_no_news() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("99999999"))
    harness.wait(0.5)
    assert not sent(Group, [*harness.give(AddressesChanged(("10.0.0.85",))), *harness.wait(0.4)])
    assert sent(Group, [*harness.give(AddressesChanged(("10.0.0.9",))), *harness.wait(0.4)])


def test_another_suite_rolls_the_key_once() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.5)
    harness.give(replace(CHANGED, suite=Suite.PSK_CHACHA20_POLY1305))
    assert harness.view.next is None, "it is of that suite"
    actions = harness.give(replace(CHANGED, suite=Suite.WDM_WITH_NULL_SHA256))
    assert of(SuiteChanged, actions)[0].configured is Suite.WDM_WITH_NULL_SHA256
    actions += harness.wait(20.0)
    assert len(of(SuiteChanged, actions)) == 1
    assert harness.view.current is not None
    assert harness.view.current.key.suite is Suite.WDM_WITH_NULL_SHA256


def test_another_suite_waits_for_a_key_on_its_way_which_may_be_of_the_former() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.5)
    harness.give(Attached(Session(Direction.LOCAL, 1), Process(1, 0)))
    harness.receive(Session(Direction.LOCAL, 1), KeyWatch(will_send=True, context=1), KeyAck(1))
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert harness.view.next is not None, "the session manager has not installed it"
    harness.give(replace(CHANGED, suite=Suite.WDM_WITH_NULL_SHA256))
    harness.wait(1.5)
    assert harness.keys == 2
    harness.receive(Session(Direction.LOCAL, 1), KeyAck(2))
    harness.wait(0.5)
    assert harness.keys == 3


def test_the_operator_hears_that_a_leased_id_is_not_the_one_that_is_configured_now() -> None:
    harness = NodeHarness(sender_id=9).start()
    session = harness.become_client("99999999")
    harness.give(Attached(Session(Direction.LOCAL, 1), Process(1, 0)))
    harness.receive(Session(Direction.LOCAL, 1), KeyWatch(will_send=True, context=1))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    actions = harness.give(Disconnected(retry.session, "refused"))
    actions += harness.wait(3.0)
    assert len(of(SenderIdTaken, actions)) == 1


def test_a_master_that_may_be_one_no_more_hands_over() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(replace(CHANGED, eligible=False))
    assert harness.view.role is Role.MASTER  # of nobody else
    harness.give(CHANGED)
    harness.accept(1, join("99999999"))
    assert sent(Handover, harness.give(replace(CHANGED, eligible=False)))
    assert harness.view.role is not Role.MASTER


def test_a_master_that_may_be_one_no_more_hands_over_to_the_first_that_may_be() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(replace(CHANGED, eligible=False))
    never = join("99999999")
    harness.accept(1, replace(never, member=replace(never.member, priority=200, eligible=False)))
    assert not sent(Handover, [a for _ in range(10) for a in (*harness.wait(0.5), *_beats(harness, 1))])
    assert harness.members == {"99999999"}
    harness.accept(2, join("88888888"))
    told = [a for _ in range(5) for a in (*harness.wait(0.5), *_beats(harness, 1, 2))]
    assert {h.master.id for h in sent(Handover, told)} == {"88888888"}
    assert harness.view.role is not Role.MASTER


def _beats(harness: NodeHarness, *numbers: int) -> list[Action]:
    return [a for n in numbers for a in harness.receive(Session(Direction.INBOUND, n), Heartbeat())]


def test_times_apply_at_once_in_every_part() -> None:
    harness = NodeHarness().start().become_master()
    before = harness.keys
    harness.give(replace(CHANGED, timing=Timing(rekey_interval=10.0, heartbeat_interval=0.1, dead_after=0.5)))
    harness.wait(11.0)
    assert harness.keys == before + 1
    harness.accept(1, join("99999999"))
    assert len(sent(Heartbeat, harness.wait(0.45))) in (4, 5)
    assert "99999999" in harness.members
    harness.wait(0.1)
    assert "99999999" not in harness.members


def test_a_member_of_a_full_group_may_come_on_another_connection() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(replace(CHANGED, max_members=2))
    assert refusal(harness.accept(1, join("99999999"))) is None
    assert refusal(harness.accept(2, join("99999999"))) is None
    assert refusal(harness.accept(3, join("88888888"))) == "group_full"
