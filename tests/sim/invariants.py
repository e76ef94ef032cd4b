"""The guarantees for a group: at every step, and after the network has been connected and quiet for a while."""

from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import Accepted, Attached, Disconnected, Event, Session
from pskkey.core.notices import KeyDistributed, Merged, RoleChanged
from pskkey.model import MAX_EPOCH, MAX_KEY_ENTRIES, SENDER_IDS, Role
from tests.sim.host import Broken, Host
from tests.sim.world import World

EARLIEST_REKEY = 0.89
"""The share of the rekey interval after which the next key may come.

The master rekeys up to a tenth earlier by chance, and its clock may be fast.
"""

STEPS_A_SECOND = 400
"""The most calls of a node in one virtual second, for each host of the world. A node waits, and does not spin."""


class Watch:
    """Checks every step of every node.

    A term never falls in the life of a process. In one term of a master, as long as its persisted state lasts, an epoch
    is one key. The epoch that a master sends with never falls, except at a wrap, which comes with a higher term. (One
    (term, epoch) is not one key in the whole network: two successors in two partitions take the same term by the same
    rule, and know nothing of each other.) A node sends nothing on a session that is closed or was never open. The world
    itself checks that a node does nothing after `Stopped`.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._terms: dict[Host, tuple[int, int]] = {}
        self._versions: dict[Host, tuple[int, int, int]] = {}
        self._keys: dict[tuple[Host, int, int, int], str] = {}
        self._epochs: dict[tuple[Host, int, Host, int], int] = {}
        self._first_in: dict[tuple[Host, int, int], int] = {}
        self._open: dict[Host, set[Session]] = {}
        self._steps: dict[Host, tuple[int, int]] = {}
        world.events.append(self._event)
        world.actions.append(self._action)
        world.after_step.append(self._step)
        world.ended.append(self._ended)

    # --- sessions -----------------------------------------------------------------------------------------------

    def _event(self, host: Host, event: Event) -> None:
        if host.node is None:
            return
        match event:
            case Accepted(session) | Attached(session):
                self._open.setdefault(host, set()).add(session)
            case Disconnected(session):
                self._open.setdefault(host, set()).discard(session)
            case _:
                pass
        second, steps = self._steps.get(host, (0, 0))
        steps = steps + 1 if second == int(self._world.now) else 1
        self._steps[host] = (int(self._world.now), steps)
        if steps > STEPS_A_SECOND * (10 + len(self._world.hosts)):
            raise Broken("G7", f"{host.name} was called {steps} times within a second: it spins")

    def _action(self, host: Host, action: Action) -> None:
        if host.stranger is not None:
            return
        sessions = self._open.setdefault(host, set())
        match action:
            case Connect(session):
                sessions.add(session)
            case Send(session) if session not in sessions:
                raise Broken("G5", f"{host.name} sends {type(action.message).__name__} on {session}, which is not open")
            case Disconnect(session):
                sessions.discard(session)
            case _:
                pass

    def _ended(self, host: Host) -> None:
        self._open.pop(host, None)

    # --- terms and keys -----------------------------------------------------------------------------------------

    def _step(self, host: Host) -> None:
        node = host.node
        if node is None:
            return
        view = node.view()
        incarnation, before = self._terms.get(host, (0, 0))
        if incarnation == host.incarnation and view.term < before:
            raise Broken("G3", f"{host.name}: term went down from {before} to {view.term}")
        self._terms[host] = (host.incarnation, view.term)
        if host.due is None and view.role is not Role.CLIENT:
            raise Broken("G6", f"{host.name} is {view.role} and waits for nothing: it gave up")
        if view.current is not None:
            self._first_in.setdefault((host, host.fresh_starts, view.current.epoch), view.term)
        version = (host.incarnation, view.term, view.keys_version)
        if self._versions.get(host) == version:
            return
        self._versions[host] = version
        entries = view.keys
        if len(entries) > MAX_KEY_ENTRIES:
            raise Broken("G2", f"{host.name} holds {len(entries)} keys")
        if sum(e.send for e in node.key_state().entries) > 1:
            raise Broken("G2", f"{host.name} would send with two keys")
        if len({e.epoch for e in entries}) != len(entries):
            raise Broken("G2", f"{host.name} has two keys of one epoch")
        if view.role is Role.MASTER:
            self._check_epochs(host)

    def _check_epochs(self, host: Host) -> None:
        node = host.node
        assert node is not None
        view = node.view()
        term, current = view.term, view.current
        for entry in view.keys:
            key = self._keys.setdefault((host, host.fresh_starts, term, entry.epoch), entry.key.fingerprint)
            if key != entry.key.fingerprint:
                raise Broken("G4", f"{host.name}: two keys are epoch {entry.epoch} of its term {term}")
        if current is not None:
            about = (host, host.incarnation, host, term)
            before = self._epochs.get(about, 0)
            if current.epoch < before and not self._has_wrapped(before, term, host):
                raise Broken("G4", f"{host.name}: epoch went down from {before} to {current.epoch} in {term}")
            self._epochs[about] = current.epoch

    def _has_wrapped(self, before: int, term: int, host: Host) -> bool:
        return before > MAX_EPOCH // 2 and term > self._first_in[host, host.fresh_starts, before]


class Calm:
    """Records when any node last changed its current or next key, and when any node last changed any key."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._in_use: dict[Host, tuple[object, ...]] = {}
        self._versions: dict[Host, int] = {}
        self.slots_changed_at = self.changed_at = world.now
        world.after_step.append(self._step)

    def _step(self, host: Host) -> None:
        if host.node is None:
            return
        view = host.node.view()
        if self._versions.get(host) == view.keys_version:
            return
        self._versions[host] = view.keys_version
        self.changed_at = self._world.now
        in_use = tuple((key.epoch, key.slot) for key in (view.current, view.next) if key is not None)
        if self._in_use.get(host) != in_use:
            self._in_use[host] = in_use
            self.slots_changed_at = self._world.now


class Quiet:
    """Checks from its construction on that no role and no key changes, except by the master's `rekey_interval`."""

    def __init__(self, world: World) -> None:
        self._world = world
        keys = [(host, host.node.view().current) for host in world.hosts if world.master_of(host) is host and host.node]
        self._rekeyed_at = max((host.when(key.since) for host, key in keys if key is not None), default=float("-inf"))
        """When the current key became current."""
        self.is_over = False
        """Set when the quiet ends."""
        world.actions.append(self._action)

    def _action(self, host: Host, action: Action) -> None:
        match action:
            case _ if self.is_over:
                pass
            case RoleChanged(was, role) if {was, role} <= {Role.LISTENING, Role.JOINING}:
                pass  # a node that a full group has refused tries again
            case KeyDistributed() if host.timing.rekey_interval and self._is_time(host.timing.rekey_interval):
                self._rekeyed_at = self._world.now
            case RoleChanged() | KeyDistributed() | Merged():
                raise Broken("G18", f"{host.name} is not quiet: {action}")
            case _:
                pass

    def _is_time(self, interval: float) -> bool:
        return self._world.now - self._rekeyed_at >= interval * EARLIEST_REKEY


def check_suite(world: World) -> None:
    """Check that the current key is of the suite that the master is configured for."""
    for host in world.hosts:
        view = host.node.view() if host.node is not None else None
        if view is None or view.role is not Role.MASTER or view.current is None:
            continue
        if view.current.key.suite is not host.suite:
            raise Broken(
                "G17", f"{host.name} is configured for {host.suite.name}, and has {view.current.key.suite.name}"
            )


def check_keys_settled(world: World) -> None:
    """Check that all members hold the same keys in the same slots."""
    views = {h.name: h.node.view() for h in world.hosts if h.node is not None and h.node.view().master}
    held = {name: [(k.epoch, k.key.fingerprint, k.slot) for k in v.keys] for name, v in views.items()}
    if len({tuple(keys) for keys in held.values()}) > 1:
        raise Broken("G16", f"the keys differ: {held}")


def check_converged(world: World, *, senders: set[Host] | None = None, keys_settled: bool = True) -> None:
    """Check for one master, all live nodes its members as far as it has room, one term and one current key.

    `senders`: the hosts that must have a sender id of their own; None: all. Until `keys_settled` there may be too few
    ids: the ids of nodes that have left stay in use as long as the keys under which they were used.
    """
    alive = [h for h in world.hosts if h.node is not None]
    masters = [h for h in alive if h.node and h.node.view().role is Role.MASTER]
    if not masters and not any(h.member.eligible for h in alive):
        return
    if len(masters) != 1:
        raise Broken("G12", f"{len(masters)} masters: {', '.join(h.name for h in masters)}")
    master = masters[0]
    assert master.node is not None
    clients = [h for h in alive if h.node and h.node.view().role is Role.CLIENT]
    if (wanted := min(len(alive), master.max_members) - 1) != len(clients):
        roles = ", ".join(f"{h.name} is {h.node.view().role}" for h in alive if h.node and h not in clients)
        raise Broken("G12", f"{len(clients)} clients, not {wanted}: {roles}")
    for host in clients:
        _check_client(world, host, master)
    group = master.node.group()
    if group is None or {m.id for m in group.members} != {h.member.id for h in (*clients, master)}:
        raise Broken("G13", f"{master.name} does not know exactly the live members")
    level = min(h.member.speaks.highest for h in (*clients, master))
    levels = {h.name: known.level for h in (*clients, master) if h.node and (known := h.node.group())}
    if set(levels.values()) != {level}:
        raise Broken("G13", f"the level of the group is {level}, not as in {levels}")
    must = [h for h in (*clients, master) if senders is None or h in senders]
    _check_sender_ids(master, {h.member.id for h in must}, keys_settled=keys_settled)


def check_replaced(world: World) -> None:
    """Check that all nodes of a quiet group whose master is gone are members of its successor."""
    alive = [h for h in world.hosts if h.node is not None]
    masters = {h.name: world.master_of(h) for h in alive}
    is_replaced = len(set(masters.values())) == 1 and set(masters.values()) <= set(alive)
    if any(h.member.eligible for h in alive) and not is_replaced:
        followed = ", ".join(f"{name} follows {m.name if m else 'none'}" for name, m in masters.items())
        raise Broken("G20", f"the lost master was not replaced: {followed}")


def keys_of(host: Host) -> frozenset[str]:
    """Return the fingerprints of the keys that a node has."""
    return frozenset() if host.node is None else frozenset(key.key.fingerprint for key in host.node.view().keys)


def check_excluded(world: World, known: frozenset[str]) -> None:
    """Check that no node with a master sends with one of the `known` keys, those of a node that has left."""
    for host in world.hosts:
        current = host.node.view().current if host.node is not None else None
        if current is not None and current.key.fingerprint in known and world.master_of(host) is not None:
            raise Broken("G23", f"{host.name} sends with epoch {current.epoch}, which a node that has left knows")


def check_rest_is_whole(world: World, twins: list[Host]) -> None:
    """Check that all other nodes are members of one master, though two nodes have one id.

    If both twins were masters before they met, no other node can distinguish them, and each keeps its members.
    """
    others = [h for h in world.hosts if h.node is not None and h not in twins]
    if not any(h.member.eligible for h in others):
        return
    masters = {m.name: m for h in others if (m := world.master_of(h)) is not None}
    alone = [h.name for h in others if world.master_of(h) is None]
    if alone or (len(masters) > 1 and not set(masters.values()) <= set(twins)):
        raise Broken(
            "G15", f"beside two with one id: masters {', '.join(masters)}; without one {', '.join(alone) or 'none'}"
        )
    for host in others:
        master = world.master_of(host)
        if master is not None and host is not master:
            _check_client(world, host, master)


def _check_client(world: World, host: Host, master: Host) -> None:
    node, master_node = host.node, master.node
    assert node is not None
    assert master_node is not None
    if world.master_of(host) is not master:
        raise Broken("G12", f"{host.name} follows another master than {master.name}")
    if node.view().term != master_node.view().term:
        raise Broken("G13", f"{host.name} is in term {node.view().term}, not {master_node.view().term}")
    current, masters_current = node.view().current, master_node.view().current
    if current is None or masters_current is None or current.key != masters_current.key:
        raise Broken("G13", f"{host.name} sends with {current}, the master with {masters_current}")
    group, masters_group = node.group(), master_node.group()
    if group is None or masters_group is None:
        raise Broken("G13", f"{host.name} knows no group")
    if {(m.id, m.sender_id) for m in group.members} != {(m.id, m.sender_id) for m in masters_group.members}:
        raise Broken("G13", f"{host.name} does not know the members as the master does")
    if unknown := master_node.key_state().senders - node.key_state().senders:
        raise Broken("G13", f"{host.name} does not know that sender ids are in use: {sorted(unknown)}")


def _check_sender_ids(master: Host, must: set[str], *, keys_settled: bool) -> None:
    assert master.node is not None
    group = master.node.group()
    assert group is not None
    ids = [m.sender_id for m in group.members if m.sender_id is not None]
    if len(set(ids)) != len(ids):
        raise Broken("G14", f"sender ids are not unique: {sorted(ids)}")
    without = [m.name for m in group.members if m.id in must and m.sender_id is None]
    none_left = len(master.node.key_state().senders) == SENDER_IDS and not keys_settled
    if without and not none_left and len(must) <= SENDER_IDS:
        raise Broken("G14", f"no sender id for {', '.join(without)}")
