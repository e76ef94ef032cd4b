"""Each check can fail: it finds the defect of a node, or of its treatment, that a test makes on purpose."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from pskkey.core.actions import Action, Advertise, Send, Stopped
from pskkey.core.events import AdvertReceived, Direction, Disconnected, Event, RekeyRequested, StopRequested
from pskkey.core.node import Node
from pskkey.core.settings import Settings, Timing
from pskkey.core.view import KeyView, NodeView
from pskkey.mcast.session import GroupSession, Message
from pskkey.model import Advert, Heartbeat, KeyNewReason, KeyState, Role, SavedState, Slot, Suite
from tests.sim.chaos import Outcome, run
from tests.sim.expiries import Expiries
from tests.sim.host import Broken, Host
from tests.sim.invariants import (
    Quiet,
    Watch,
    check_converged,
    check_keys_settled,
    check_replaced,
    check_rest_is_whole,
    check_suite,
)
from tests.sim.kinds import KINDS
from tests.sim.mute import BY_NONSENSE
from tests.sim.operators import settings_changed
from tests.sim.tables import check_tables
from tests.sim.traffic import Traffic
from tests.sim.world import World


class Liar(Node):
    """Shows a false view of itself."""

    def __init__(self, settings: Settings, saved: SavedState | None = None) -> None:
        super().__init__(settings, saved)
        self.lie: Callable[[NodeView], NodeView] = lambda view: view

    def view(self) -> NodeView:
        return self.lie(super().view())


class Stage:
    """A group of three with all its checks."""

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        make_node: type[Liar] = Liar,
        make_session: Callable[[], GroupSession] | None = None,
        size: int = 3,
    ) -> None:
        self.world = World(1)
        self.world.make_node = make_node
        Watch(self.world)
        self.traffic = Traffic(self.world, calm=True)
        if make_session is not None:
            self.traffic.datagrams.make_session = make_session
        for _ in range(size):
            self.world.start(self.world.add(timing=timing))
        self.wait(5.0)
        check_converged(self.world)

    def wait(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def master(self) -> tuple[Host, Liar]:
        return self._first(Role.MASTER)

    def client(self) -> tuple[Host, Liar]:
        return self._first(Role.CLIENT)

    def _first(self, role: Role) -> tuple[Host, Liar]:
        nodes = ((host, host.node) for host in self.world.hosts if isinstance(host.node, Liar))
        return next((host, node) for host, node in nodes if node.view().role is role)

    def rekey(self) -> None:
        self.world.handle(self.master()[0], RekeyRequested(KeyNewReason.OPERATOR))
        self.wait(2.0)


def test_falling_term_is_found() -> None:
    stage = Stage()
    stage.client()[1].lie = lambda view: replace(view, term=view.term - 1)
    with pytest.raises(Broken, match="term went down"):
        stage.wait(1.0)


def test_two_keys_of_one_term_and_epoch_are_found() -> None:
    stage = Stage()
    another = KeyView(1, stage.world.fresh_key(), Slot.CURRENT, 0.0)
    stage.master()[1].lie = lambda view: replace(view, keys=(another,), keys_version=99)
    with pytest.raises(Broken, match="two keys are epoch 1"):
        stage.wait(1.0)


def test_falling_epoch_is_found() -> None:
    stage = Stage()
    stage.rekey()
    node = stage.master()[1]
    first = next(replace(key, slot=Slot.CURRENT) for key in node.view().keys if key.epoch == 1)
    node.lie = lambda view: replace(view, keys=(first,), keys_version=99)
    with pytest.raises(Broken, match="epoch went down from 2 to 1"):
        stage.wait(1.0)


def test_key_in_use_before_all_have_it_is_found() -> None:
    with pytest.raises(Broken, match="cannot read"):
        Stage(timing=Timing(activation_deadline=0.0001)).rekey()


def test_key_dropped_while_others_send_with_it_is_found() -> None:
    with pytest.raises(Broken, match="cannot read"):
        Stage(timing=Timing(retire_after=0.0)).rekey()


def test_two_processes_that_send_under_one_key_and_id_are_found() -> None:
    stage = Stage()
    host, _ = stage.client()
    stage.world.crash(host)
    assert host.saved is not None
    host.saved = replace(
        host.saved, sent_with=(), managers=()
    )  # a daemon that forgets which process has sent with which key
    for manager in list(stage.traffic.managers.on[host]):
        stage.traffic.managers.end(manager)
    stage.world.start(host)
    with pytest.raises(Broken, match="sequence numbers repeat"):
        stage.wait(3.0)


class Deaf(GroupSession):
    """Takes the records of one other sender for its own."""

    def receive(self, datagram: bytes, now: float = 0.0) -> Message | None:
        message = super().receive(datagram, now)
        return None if message is not None and message.sender_id == 0 else message


class Gullible(GroupSession):
    """Delivers a repeated datagram again."""

    def __init__(self) -> None:
        super().__init__(any_sender=True)
        self.heard: dict[bytes, Message] = {}

    def receive(self, datagram: bytes, now: float = 0.0) -> Message | None:
        message = super().receive(datagram, now)
        if message is not None:
            self.heard[datagram] = message
        return self.heard.get(datagram)


class Stuck(GroupSession):
    """Repeats its sequence numbers."""

    def send(self, plaintext: bytes) -> bytes:
        other = GroupSession()
        other.apply(self.state)
        return other.send(plaintext)

    def apply(self, state: KeyState) -> tuple[int, ...]:
        self.state = state
        return super().apply(state)


@pytest.mark.parametrize(
    ("make_session", "match"),
    [
        (partial(Deaf, any_sender=True), "has that key and does not deliver"),
        (Gullible, "delivers twice"),
        (partial(Stuck, any_sender=True), "two records"),
        (partial(GroupSession, any_sender=True, own_records=True), "its own"),
        (partial(GroupSession, any_sender=True, high_water=3, sequence_limit=3), "cannot: the sequence numbers"),
    ],
)
def test_session_that_does_not_deliver_each_datagram_once_is_found(
    make_session: Callable[[], GroupSession], match: str
) -> None:
    with pytest.raises(Broken, match=match):
        Stage(make_session=make_session).wait(20.0)


def test_rekey_in_quiet_group_is_found() -> None:
    stage = Stage()
    Quiet(stage.world)
    stage.wait(30.0)
    with pytest.raises(Broken, match="not quiet"):
        stage.rekey()


def test_rekey_before_rekey_interval_is_found() -> None:
    stage = Stage(timing=Timing(rekey_interval=30.0))
    Quiet(stage.world)
    stage.wait(70.0)
    with pytest.raises(Broken, match="not quiet"):
        stage.rekey()


def test_key_of_suite_that_master_is_not_configured_for_is_found() -> None:
    stage = Stage()
    check_suite(stage.world)
    stage.master()[0].suite = Suite.WDM_WITH_NULL_SHA256  # its node is not notified
    with pytest.raises(Broken, match="configured for WDM_WITH_NULL_SHA256"):
        check_suite(stage.world)


def test_keys_that_do_not_settle_are_found() -> None:
    stage = Stage()
    check_keys_settled(stage.world)
    another = KeyView(2, stage.world.fresh_key(), Slot.NEXT, 0.0)
    stage.client()[1].lie = lambda view: replace(view, keys=(*view.keys, another))
    with pytest.raises(Broken, match="the keys differ"):
        check_keys_settled(stage.world)


def test_mute_sender_in_whole_group_is_found() -> None:
    stage = Stage()
    stage.traffic.check_flows()
    host, _ = stage.client()
    stage.traffic.managers.on[host][0].sends = None
    with pytest.raises(Broken, match=r"0 of its processes send|mute"):
        stage.traffic.check_flows()


def test_senders_that_fall_mute_are_counted_by_reason() -> None:
    stage = Stage()
    host, _ = stage.client()
    stage.world.crash(host)
    stage.world.start(host, forgetful=True)
    stage.wait(5.0)
    assert dict(stage.traffic.mute) == {"after its daemon had started without persisted state": 1}
    stage.traffic.check_flows()


class Forgetful(Liar):
    """Marks no key to send with any more."""

    is_forgetful = False

    def handle(self, event: Event, now: float) -> list[Action]:
        return [self._without_mark(action) for action in super().handle(event, now)]

    def _without_mark(self, action: Action) -> Action:
        match action:
            case Send(session, KeyState() as state) if self.is_forgetful and session.direction is Direction.LOCAL:
                return Send(session, replace(state, entries=tuple(replace(e, send=False) for e in state.entries)))
            case _:
                return action


def test_sender_that_falls_mute_for_no_reason_is_found() -> None:
    stage = Stage(make_node=Forgetful)
    node = stage.client()[1]
    assert isinstance(node, Forgetful)
    node.is_forgetful = True
    with pytest.raises(Broken, match="falls mute: unexplained"):
        stage.rekey()


def test_sender_that_falls_mute_for_want_of_masters_key_is_found() -> None:
    stage = Stage(make_node=Forgetful)
    node = stage.client()[1]
    assert isinstance(node, Forgetful)
    node.lie = lambda view: replace(view, keys=tuple(replace(key, slot=Slot.PREVIOUS) for key in view.keys))
    node.is_forgetful = True
    with pytest.raises(Broken, match=f"falls mute: {BY_NONSENSE}"):
        stage.rekey()


class Unending(Forgetful):
    """Gives a key to send with though the key has expired."""

    def _without_mark(self, action: Action) -> Action:
        match action:
            case Send(session, KeyState(entries=(one,)) as state) if session.direction is Direction.LOCAL:
                sender_id = self.key_state().sender_id
                return Send(session, replace(state, sender_id=sender_id, entries=(replace(one, send=True),)))
            case _:
                return action


@pytest.mark.parametrize("make_node", [Liar, Unending])
def test_sender_without_master_that_goes_on_is_found(make_node: type[Liar]) -> None:
    stage = Stage(make_node=make_node, size=2, timing=Timing(expires_after=20.0))
    Expiries(stage.world, stage.traffic.managers)
    host, _ = stage.client()
    host.member = replace(host.member, eligible=False)
    stage.world.handle(host, settings_changed(host))
    stage.wait(1.0)
    stage.world.power_off(stage.master()[0])
    stage.wait(20.0)
    assert stage.traffic.managers.on[host][0].sends is not None
    if make_node is Liar:
        stage.wait(10.0)
        assert stage.traffic.managers.on[host][0].sends is None
    else:
        with pytest.raises(Broken, match="has had no master since"):
            stage.wait(10.0)


def test_growing_tables_are_found() -> None:
    stage = Stage()
    _, node = stage.master()
    check_tables(stage.world, 3)
    for number in range(400):
        advert = Advert("sim", f"{number:032x}", "n", 1, True, Role.CLIENT, 1, 1, ("10.1.1.1",), 1)
        node.handle(AdvertReceived(advert), stage.world.now)
    with pytest.raises(Broken, match="objects"):
        check_tables(stage.world, 3)


class Leaky(Liar):
    """Sends on sessions that are over."""

    def handle(self, event: Event, now: float) -> list[Action]:
        actions = super().handle(event, now)
        return [*actions, Send(event.session, Heartbeat())] if isinstance(event, Disconnected) else actions


def test_message_on_closed_session_is_found() -> None:
    stage = Stage(make_node=Leaky)
    stage.world.crash(stage.client()[0])
    with pytest.raises(Broken, match="which is not open"):
        stage.wait(1.0)


class Restless(Liar):
    """Announces itself after it has stopped."""

    def handle(self, event: Event, now: float) -> list[Action]:
        actions = super().handle(event, now)
        return (
            [*actions, Advertise(Advert("sim", "0" * 32, "n", 1, True, Role.MASTER, 1, 1, ("10.1.1.1",), 1))]
            if Stopped() in actions
            else actions
        )


def test_action_after_stop_is_found() -> None:
    stage = Stage(make_node=Restless)
    with pytest.raises(Broken, match="after it has stopped"):
        stage.world.handle(stage.master()[0], StopRequested())


class Spinning(Liar):
    """Is always due at once."""

    def next_deadline(self) -> float | None:
        return 0.0


def test_spinning_node_is_found() -> None:
    with pytest.raises(Broken, match="it spins"):
        Stage(make_node=Spinning)


def test_group_that_two_nodes_with_one_id_divide_is_found() -> None:
    stage = Stage(size=5)
    hosts = stage.world.hosts
    check_rest_is_whole(stage.world, hosts[:2])
    stage.world.reach.split(hosts[3:])
    stage.wait(10.0)
    with pytest.raises(Broken, match="beside two with one id"):
        check_rest_is_whole(stage.world, hosts[:2])


def test_lost_master_without_successor_is_found() -> None:
    stage = Stage()
    check_replaced(stage.world)
    stage.world.power_off(stage.master()[0])
    with pytest.raises(Broken, match="was not replaced"):
        check_replaced(stage.world)
    stage.wait(stage.world.bounds.replaces_within)
    check_replaced(stage.world)


def test_every_kind_of_run_keeps_guarantees_and_repeats() -> None:
    def held(seed: int, name: str) -> Outcome:
        outcome = run(seed, nodes=5, kind=next(k for k in KINDS if k.name == name))
        assert outcome.error is None
        return outcome

    for kind in KINDS:
        assert held(3, kind.name).transcript == held(3, kind.name).transcript
