"""What must hold of a group: at every step, and once the network has been connected and quiet for a while."""

from pskkey.model import SENDER_IDS, Role
from tests.sim.host import Host
from tests.sim.world import World

CONVERGES_WITHIN = 12.0
"""Seconds of a connected, fault-free network after which a group must be one: the patience with a successor, a
discovery window, the claims of the candidates, the hold-downs of a rival and of a lost master, and a merge."""

KEYS_SETTLE_WITHIN = 12.0
"""Seconds after that in which the last old key is retired everywhere (`retire_after` and a roll)."""


class Broken(AssertionError):
    """An invariant does not hold; the message ends with what repeats the run."""


class Watch:
    """Checks every step of every node."""

    def __init__(self, world: World) -> None:
        self._terms: dict[tuple[Host, int], int] = {}
        self._keys: dict[tuple[str, int, int], str] = {}
        world.after_step.append(self._step)

    def _step(self, host: Host) -> None:
        node = host.node
        assert node is not None
        life = (host, host.incarnation)
        term = node.election.term
        if term < self._terms.get(life, 0):
            raise Broken(f"{host.name}: term went down from {self._terms[life]} to {term}")
        self._terms[life] = term
        entries = node.keyring.entries
        if len(entries) > 3:
            raise Broken(f"{host.name} holds {len(entries)} keys")
        if sum(e.send for e in node.key_state().entries) > 1:
            raise Broken(f"{host.name} would send with two keys")
        if len({e.epoch for e in entries}) != len(entries):
            raise Broken(f"{host.name} has two keys of one epoch")
        if node.next_deadline() is None and node.election.role is not Role.CLIENT:
            raise Broken(f"{host.name} is {node.election.role} and waits for nothing: it gave up")


def check_keys_settled(world: World) -> None:
    """Everybody alive holds the same keys in the same turns, if there is anybody to lead them."""
    if not any(h.member.eligible for h in world.hosts if h.node is not None):
        return
    held = {h.name: h.node.keyring.held() for h in world.hosts if h.node is not None}
    if len(set(held.values())) > 1:
        raise Broken(f"the keys differ: {held}")


def check_converged(world: World) -> None:
    """One master, everybody alive its member, one term, one key to send with."""
    alive = [h for h in world.hosts if h.node is not None]
    masters = [h for h in alive if h.node and h.node.election.role is Role.MASTER]
    if not any(h.member.eligible for h in alive):
        if masters:
            raise Broken("a node that is not eligible is master")
        return
    if len(masters) != 1:
        raise Broken(f"{len(masters)} masters: {', '.join(h.name for h in masters)}")
    master = masters[0]
    assert master.node is not None
    for host in alive:
        node = host.node
        assert node is not None
        if host is not master:
            if node.election.role is not Role.CLIENT:
                raise Broken(f"{host.name} is {node.election.role}, not a client")
            if node.election.master is None or node.election.master.id != master.member.id:
                raise Broken(f"{host.name} follows another master than {master.name}")
        if node.election.term != master.node.election.term:
            raise Broken(f"{host.name} is in term {node.election.term}, not {master.node.election.term}")
        current, masters_own = node.keyring.current, master.node.keyring.current
        if current is None or masters_own is None or current.key != masters_own.key:
            raise Broken(f"{host.name} sends with {current}, the master with {masters_own}")
        group = node.group()
        if group is None or {m.id for m in group.members} != {h.member.id for h in alive}:
            raise Broken(f"{host.name} does not know exactly the live members")
        ids = [m.sender_id for m in group.members]
        if len(alive) <= SENDER_IDS and (None in ids or len(set(ids)) != len(ids)):
            raise Broken(f"sender ids are not unique: {ids}")
