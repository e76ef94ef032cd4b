"""What an operator changes while a node runs, at the door of a single node."""

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
from tests.core.door import Door, join, of, one, refusal, sent

CHANGED = SettingsChanged("new", 7, eligible=True, max_members=1024, preempt=False, timing=Timing())


def test_a_client_tells_its_master_and_all_who_listen() -> None:
    door = Door().start()
    door.become_client()
    actions = door.give(CHANGED)
    (told,) = sent(Join, actions)
    assert (told.member.name, told.member.priority, told.member.addresses) == ("new", 7, ("10.0.0.85",))
    assert of(Advertise, actions)
    (told,) = sent(Join, door.give(AddressesChanged(("10.0.0.9",))))
    assert (told.member.name, told.member.addresses) == ("new", ("10.0.0.9",))


def test_a_master_tells_its_members() -> None:
    door = Door().start().become_master()
    door.accept(1, join("99999999"))
    door.wait(0.5)
    told = sent(Group, [*door.give(CHANGED), *door.wait(0.2)])
    assert next(m.priority for m in told[-1].members if m.name == "new") == 7


def test_the_addresses_that_it_has_already_are_no_news() -> None:
    door = Door().start().become_master()
    door.accept(1, join("99999999"))
    door.wait(0.5)
    assert not sent(Group, [*door.give(AddressesChanged(("10.0.0.85",))), *door.wait(0.4)])
    assert sent(Group, [*door.give(AddressesChanged(("10.0.0.9",))), *door.wait(0.4)])


def test_another_suite_rolls_the_key_once() -> None:
    door = Door().start().become_master()
    door.wait(1.5)
    door.give(replace(CHANGED, suite=Suite.PSK_CHACHA20_POLY1305))
    assert door.view.next is None, "it is of that suite"
    actions = door.give(replace(CHANGED, suite=Suite.WDM_WITH_NULL_SHA256))
    assert of(SuiteChanged, actions)[0].configured is Suite.WDM_WITH_NULL_SHA256
    actions += door.wait(20.0)
    assert len(of(SuiteChanged, actions)) == 1
    assert door.view.current is not None
    assert door.view.current.key.suite is Suite.WDM_WITH_NULL_SHA256


def test_another_suite_waits_for_a_key_on_its_way_which_may_be_of_the_former() -> None:
    door = Door().start().become_master()
    door.wait(1.5)
    door.give(Attached(Session(Direction.LOCAL, 1), Process(1, 0)))
    door.receive(Session(Direction.LOCAL, 1), KeyWatch(will_send=True, memory=1), KeyAck(1))
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert door.view.next is not None, "the session manager has not installed it"
    door.give(replace(CHANGED, suite=Suite.WDM_WITH_NULL_SHA256))
    door.wait(1.5)
    assert door.keys == 2
    door.receive(Session(Direction.LOCAL, 1), KeyAck(2))
    door.wait(0.5)
    assert door.keys == 3


def test_the_operator_hears_that_a_leased_id_is_not_the_one_that_is_configured_now() -> None:
    door = Door(sender_id=9).start()
    session = door.become_client("99999999")
    door.give(Attached(Session(Direction.LOCAL, 1), Process(1, 0)))
    door.receive(Session(Direction.LOCAL, 1), KeyWatch(will_send=True, memory=1))
    retry = one(Connect, door.give(Disconnected(session, "reset")))
    actions = door.give(Disconnected(retry.session, "refused"))
    actions += door.wait(3.0)
    assert len(of(SenderIdTaken, actions)) == 1


def test_a_master_that_may_be_one_no_more_hands_over() -> None:
    door = Door().start().become_master()
    door.give(replace(CHANGED, eligible=False))
    assert door.view.role is Role.MASTER  # of nobody else
    door.give(CHANGED)
    door.accept(1, join("99999999"))
    assert sent(Handover, door.give(replace(CHANGED, eligible=False)))
    assert door.view.role is not Role.MASTER


def test_a_master_that_may_be_one_no_more_hands_over_to_the_first_that_may_be() -> None:
    door = Door().start().become_master()
    door.give(replace(CHANGED, eligible=False))
    never = join("99999999")
    door.accept(1, replace(never, member=replace(never.member, priority=200, eligible=False)))
    assert not sent(Handover, [a for _ in range(10) for a in (*door.wait(0.5), *_beats(door, 1))])
    assert door.members == {"99999999"}
    door.accept(2, join("88888888"))
    told = [a for _ in range(5) for a in (*door.wait(0.5), *_beats(door, 1, 2))]
    assert {h.master.id for h in sent(Handover, told)} == {"88888888"}
    assert door.view.role is not Role.MASTER


def _beats(door: Door, *numbers: int) -> list[Action]:
    return [a for n in numbers for a in door.receive(Session(Direction.INBOUND, n), Heartbeat())]


def test_times_apply_at_once_in_every_part() -> None:
    door = Door().start().become_master()
    before = door.keys
    door.give(replace(CHANGED, timing=Timing(rekey_interval=10.0, heartbeat_interval=0.1, dead_after=0.5)))
    door.wait(11.0)
    assert door.keys == before + 1
    door.accept(1, join("99999999"))
    assert len(sent(Heartbeat, door.wait(0.45))) in (4, 5)
    assert "99999999" in door.members
    door.wait(0.1)
    assert "99999999" not in door.members


def test_a_member_of_a_full_group_may_come_on_another_connection() -> None:
    door = Door().start().become_master()
    door.give(replace(CHANGED, max_members=2))
    assert refusal(door.accept(1, join("99999999"))) is None
    assert refusal(door.accept(2, join("99999999"))) is None
    assert refusal(door.accept(3, join("88888888"))) == "group_full"
