"""A rotation of the PSK interrupts nothing. If a step is left out, the group heals after the last host."""

import pytest

from pskkey.core.actions import Action
from pskkey.core.events import Event, PskChanged, RekeyRequested, SwitchoverRequested
from pskkey.core.node import Node
from pskkey.core.notices import MasterLost, MemberLost, RenewalFailed, RoleChanged, SessionRenewed
from pskkey.model import KeyNewReason, Role
from tests.sim.host import Broken, Host
from tests.sim.invariants import Quiet, Watch, check_converged
from tests.sim.rotation import RENEWED_WITHIN, Rotation
from tests.sim.traffic import Traffic
from tests.sim.world import World


class Stage:
    """A group of five with traffic and an operator. `heard`: the actions of its nodes since it has converged."""

    def __init__(self, make_node: type[Node] = Node) -> None:
        self.world = World(1)
        self.world.make_node = make_node
        Watch(self.world)
        self.traffic = Traffic(self.world, calm=True)
        for _ in range(5):
            self.world.start(self.world.add())
        self.wait(5.0)
        self.rotation = Rotation(self.world)
        self.heard: list[Action] = []
        self.world.actions.append(lambda _host, action: self.heard.append(action))

    def wait(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    @property
    def master(self) -> Host:
        return next(h for h in self.world.hosts if h.node is not None and h.node.view().role is Role.MASTER)

    @property
    def clients(self) -> list[Host]:
        return [h for h in self.world.hosts if h is not self.master]

    def give(self, host: Host, *psks: str) -> None:
        host.psk_file = psks
        self.world.reload(host)

    def states(self) -> list[tuple[object, ...]]:
        """Return the role, the term, the keys and the sender id of every node. A rotation changes none of them."""
        nodes = [h.node for h in self.world.hosts if h.node is not None]
        return [(n.view().role, n.view().term, n.view().held(), n.key_state().sender_id) for n in nodes]

    def count(self, kind: type[Action]) -> int:
        return sum(isinstance(action, kind) for action in self.heard)


def test_documented_steps_change_nothing() -> None:
    stage = Stage()
    before = stage.states()
    Quiet(stage.world)
    stage.rotation.rotate_once(0.5, RENEWED_WITHIN)
    stage.wait(6.0)
    stage.rotation.check_done()
    assert stage.states() == before
    assert stage.count(SessionRenewed) == 4
    assert not any(stage.count(kind) for kind in (MasterLost, MemberLost, RenewalFailed))
    stage.traffic.check_flows()


def test_rekey_during_rotation_loses_nothing() -> None:
    stage = Stage()
    stage.rotation.rotate_once(0.2, 0.3)
    while stage.count(SessionRenewed) < 4:
        stage.world.handle(stage.master, RekeyRequested(KeyNewReason.OPERATOR))
        stage.wait(0.01)
    stage.wait(12.0)
    stage.rotation.check_done()
    check_converged(stage.world)
    assert stage.count(MasterLost) == 0
    stage.traffic.check_flows()


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
def test_master_that_dies_or_hands_over_during_renewal_is_replaced(delay: float) -> None:
    for dies in (True, False):
        stage = Stage()
        master = stage.master
        for host in stage.world.hosts:
            stage.give(host, "psk0", "psk1")
        for host in stage.world.hosts:
            stage.give(host, "psk1", "psk0")
        stage.wait(delay)
        if dies:
            stage.world.crash(master)
        else:
            stage.world.handle(master, SwitchoverRequested())
        stage.wait(0.6)
        check_converged(stage.world)
        assert stage.master is not master
        stage.wait(1.0)
        for host in stage.world.hosts:
            stage.give(host, "psk1") if host.node is not None else None
        stage.wait(3.0)
        check_converged(stage.world)
        assert stage.count(MasterLost) == (4 if dies else 0)


def test_host_that_was_down_during_rotation_joins_the_group() -> None:
    stage = Stage()
    host = stage.clients[0]
    stage.world.crash(host)
    stage.rotation.rotate_once(0.5, RENEWED_WITHIN)
    stage.wait(6.0)
    stage.world.start(host)
    stage.wait(3.0)
    stage.rotation.check_done()
    check_converged(stage.world)


def test_rotation_waits_for_paused_host() -> None:
    stage = Stage()
    host = stage.clients[0]
    stage.world.pause(host)
    stage.rotation.rotate_once(0.5, RENEWED_WITHIN)
    stage.wait(10.0)
    assert host.psks == ("psk0",)
    with pytest.raises(Broken, match="could not be rotated"):
        stage.rotation.check_done()
    stage.world.wake(host)
    stage.wait(10.0)
    stage.rotation.check_done()
    check_converged(stage.world)


def test_session_is_kept_until_master_has_new_psk() -> None:
    stage = Stage()
    for client in stage.clients:
        stage.give(client, "psk1", "psk0")
    stage.wait(8.0)
    assert (stage.count(RenewalFailed), stage.count(SessionRenewed)) == (4, 0)
    stage.give(stage.master, "psk0", "psk1")
    stage.wait(12.0)
    assert (stage.count(SessionRenewed), stage.count(MasterLost)) == (4, 0)
    check_converged(stage.world)


def test_group_heals_after_clients_have_left_master_without_new_psk() -> None:
    stage = Stage()
    master, clients = stage.master, stage.clients
    for client in clients:
        stage.give(client, "psk1")
    stage.wait(5.0)
    assert stage.count(MasterLost) == 4
    assert sum(h.node is not None and h.node.view().role is Role.MASTER for h in stage.world.hosts) == 2
    stage.give(master, "psk1")
    stage.wait(stage.world.bounds.converges_within)
    check_converged(stage.world)


def test_members_with_removed_psk_are_refused_and_join_again() -> None:
    stage = Stage()
    clients = stage.clients
    stage.give(stage.master, "psk1")
    stage.wait(0.1)
    assert stage.count(MemberLost) == 4
    for client in clients:
        stage.give(client, "psk1")
    stage.wait(stage.world.bounds.converges_within)
    check_converged(stage.world)


# --- the checks can fail --------------------------------------------------------------------------------------------


class Deaf(Node):
    """Ignores another PSK."""

    def handle(self, event: Event, now: float) -> list[Action]:
        return [] if isinstance(event, PskChanged) else super().handle(event, now)


class Careless(Node):
    """Reports each renewal as a change of its role."""

    def handle(self, event: Event, now: float) -> list[Action]:
        actions = super().handle(event, now)
        if any(isinstance(action, SessionRenewed) for action in actions):
            actions.append(RoleChanged(Role.CLIENT, Role.JOINING, self.view().term))
        return actions


def test_session_with_former_psk_is_found() -> None:
    stage = Stage(Deaf)
    stage.rotation.rotate_once(0.0, 0.0)
    stage.world.run_until(stage.world.now + 0.0005)
    with pytest.raises(Broken, match="opened with psk0"):
        stage.rotation.check_done()


def test_interruption_is_found() -> None:
    stage = Stage(Careless)
    Quiet(stage.world)
    stage.rotation.rotate_once(0.5, RENEWED_WITHIN)
    with pytest.raises(Broken, match="is not quiet"):
        stage.wait(6.0)
