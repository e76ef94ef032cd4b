"""The guarantees for the datagrams of the session managers. They are checked at every change, and only then.

No two processes ever send under one (key, sender id), because each counts its sequence numbers from zero.

Two session managers become *linked* when both are members of one master, each in the member map of the other, and each
can read the other. A session manager that is about to connect to a restarted daemon is included, because it goes on
with its keys. From then on each datagram must be readable at its receiver, when it is sent and for `FLIGHT` after that.
A link has a direction, and begins when its sender sends: a program that begins to send in a node with a former key
sends with this key, which the other members may not have yet.
This holds whatever happens to other nodes: masters die, keys change, partitions merge. The link ends when one of the
two devices or daemons dies, sleeps or finds its clock ahead, when a node listens for a group again, when a process
ends, or when a third node can reach only one of the two. So a key is neither sent with too early nor dropped too soon.
The group waits for a slow session manager until the activation deadline, as for all others. A receiver is excused, and
counted, if it has no room for a fourth key, or holds another key of the same epoch.

Members of one master that are undisturbed for `Bounds.reads_within` must be linked. A sender falls mute only for one of
the reasons in `mute`.

`datagrams` checks with real datagrams that a receiver that has the key delivers the content.
"""

from collections import Counter

from pskkey.core.actions import Action
from pskkey.core.notices import KeyDistributed, MasterJoined, RoleChanged
from pskkey.model import MAX_KEY_ENTRIES, Process, Role
from tests.sim.datagrams import FLIGHT, Datagrams
from tests.sim.host import Broken, Host
from tests.sim.managers import RECONNECT_WITHIN, Managers, SessionManager
from tests.sim.mute import BY_NONSENSE, UNEXPLAINED, mute_reason
from tests.sim.world import World

SEARCH_EVERY = 0.25
"""Seconds between two searches for pairs to link. Linked pairs are checked at every change."""


class Traffic:
    """Watches all session managers of a world. `strict` is False while a peer sends nonsense with our PSK."""

    def __init__(self, world: World, *, calm: bool = False) -> None:
        self._world = world
        self.managers = Managers(world, calm=calm)
        self._senders: dict[tuple[str, int], Process] = {}
        self._links: dict[SessionManager, dict[SessionManager, float]] = {}
        """By sender: the receivers to which it is linked, each with the time at which the link began."""
        self._parted: dict[tuple[SessionManager, SessionManager], float] = {}
        """Since when two linked managers have followed different masters."""
        self._alone: dict[Host, float] = {}
        """Since when a node has had no master."""
        self._reach_changed_at = 0.0
        self._stopped: dict[SessionManager, dict[str, float]] = {}
        """By sender: when it stopped sending with each key."""
        self._unlinked: dict[tuple[object, ...], float] = {}
        """The pairs of members of one master that are not linked, and since when."""
        self._distributed: dict[str, float] = {}
        self.strict = True
        self.foreign: set[str] = set()
        """The fingerprints of keys that none of our nodes has made."""
        self.twins: tuple[Host, ...] = ()
        """Two hosts with one id. One is refused now and then, and both have one lease."""
        self.mute: Counter[str] = Counter()
        """How often a sender fell mute, by the reason."""
        self.lapsed = 0
        """How often a node went back to listening."""
        self._displaced: dict[SessionManager, set[str]] = {}
        """By receiver: the keys that it has dropped for another key of the same epoch."""
        self.excused: Counter[str] = Counter()
        """How often a datagram was not readable and need not be, by the reason."""
        self._used_since: dict[str, float] = {}
        self._joined_at: dict[Host, float] = {}
        self._started_at: dict[Host, float] = {}
        self.managers.changed.append(self._installed)
        self.managers.ended.append(self._forget_manager)
        self.datagrams = Datagrams(world, self.managers, self._is_covered)
        world.started.append(self._note_start)
        world.ended.append(self._end_links)
        world.disturbed.append(self._end_links)
        world.reach.changed.append(self._end_cut_links)
        world.actions.append(self._action_performed)
        world.at(SEARCH_EVERY, self._update_links)

    # --- datagrams ----------------------------------------------------------------------------------------------

    def _installed(self, manager: SessionManager, knew: frozenset[str], sent: tuple[str, int] | None) -> None:
        now = self._world.now
        if manager.sends != sent:
            if sent is not None:
                self._stopped.setdefault(manager, {})[sent[0]] = now
            if manager.sends is not None:
                self._sender_began(manager)
            elif sent is not None:
                self._sender_fell_mute(manager)
        if knew - manager.knows and not manager.lag:
            for sender in [one for one, receivers in self._links.items() if manager in receivers]:
                self._check(sender, manager, now)
        if manager.sends != sent:
            for receiver in self._links.get(manager, ()):
                self._check(manager, receiver, now)

    def _sender_began(self, manager: SessionManager) -> None:
        sends = manager.sends
        assert sends is not None
        manager.fresh_starts = manager.host.fresh_starts
        self._used_since.setdefault(sends[0], self._world.now)
        first = self._senders.setdefault(sends, manager.process)
        if first != manager.process and sends[0] not in self.foreign and manager.host not in self.twins:
            raise Broken(
                "G1",
                f"{manager.host.name}: process {manager.process.pid} sends as {sends[1]} with key "
                f"{self._name(sends[0])}, and so did process {first.pid}: sequence numbers repeat",
            )

    def _is_covered(self, sender: SessionManager, key: str) -> bool:
        """Return whether the rules apply: not to twins, which share a lease, and not while a peer sends nonsense."""
        return self.strict and key not in self.foreign and sender.host not in self.twins

    @property
    def _keeps_datagrams(self) -> bool:
        """Whether datagrams must be readable: no peer sends nonsense, and the timings of the group allow it."""
        return self.strict and self._world.bounds.keeps_datagrams

    def _sender_fell_mute(self, manager: SessionManager) -> None:
        reason = mute_reason(manager, self.managers)
        self.mute[reason] += 1
        self._world.note(manager.host, f"its session manager falls mute: {reason}")
        if reason == UNEXPLAINED or (reason == BY_NONSENSE and self.strict):
            raise Broken("G11", f"{manager.host.name}: its session manager falls mute: {reason}")

    def _check(self, sender: SessionManager, receiver: SessionManager, now: float) -> None:
        if sender.lag:
            return  # it may still send with a retired key
        used = [] if sender.sends is None else [sender.sends[0]]
        since = max(now - FLIGHT, self._links[sender][receiver])
        used += [key for key, when in self._stopped.get(sender, {}).items() if when > since]
        for key in used:
            if key in receiver.knows or not self._keeps_datagrams or self._was_too_slow(receiver, key, now):
                continue
            if self._is_ambiguous(receiver, key):
                self.excused["with another key of that epoch"] += 1
            elif self._has_no_room(receiver, key):
                self.excused["without room for it"] += 1
            else:
                held = ", ".join(sorted(self._name(k) for k in receiver.knows)) or "none"
                raise Broken(
                    "G8",
                    f"{sender.host.name} sends with key {self._name(key)}, which another member, "
                    f"{receiver.host.name}, cannot read (it has {held})",
                )

    def _was_too_slow(self, receiver: SessionManager, key: str, now: float) -> bool:
        distributed = self._distributed.get(key, now)
        if receiver.lag and receiver.notified_at.get(key, now) >= self._used_since[key]:
            return True  # the key was in use already when it arrived
        if receiver.lag and self._joined_at.get(receiver.host, 0.0) > distributed:
            return True  # its master has not distributed the key to it
        if not receiver.lag or receiver.awaited_since is None or receiver.awaited_since > distributed:
            return bool(receiver.lag)
        return now - distributed >= self._world.bounds.fastest.activation_deadline * 0.99

    def _is_ambiguous(self, receiver: SessionManager, key: str) -> bool:
        """Return whether the receiver has dropped a key for another one of its epoch.

        A record names its key by the epoch only. So of two keys of one epoch, from two partitions, one is dropped.
        """
        epochs, displaced = self.managers.epochs, self._displaced.setdefault(receiver, set())
        if any(epochs[known] == epochs[key] for known in receiver.knows):
            displaced.add(key)
        return key in displaced

    def _has_no_room(self, receiver: SessionManager, key: str) -> bool:
        """Return whether the receiver holds three keys, the most, and this one is not its master's current key.

        If partitions merge that have rekeyed often, one of the oldest keys is dropped.
        """
        node = receiver.host.node
        if node is None or len(receiver.knows) < MAX_KEY_ENTRIES:
            return False
        master = self._world.master_of(receiver.host)
        current = None if master is None or master.node is None else master.node.view().current
        return current is None or current.key.fingerprint != key

    def _action_performed(self, host: Host, action: Action) -> None:
        match action:
            case RoleChanged(role=Role.LISTENING):
                self.lapsed += 1
                self._end_links(host)
            case MasterJoined():
                self._joined_at[host] = self._world.now
            case KeyDistributed(fingerprint=fingerprint):
                self._distributed[fingerprint] = self._world.now
            case _:
                return

    def _name(self, fingerprint: str) -> str:
        return self._world.keys.get(fingerprint, fingerprint)

    # --- links --------------------------------------------------------------------------------------------------

    def _update_links(self) -> None:
        world = self._world
        world.at(world.now + SEARCH_EVERY, self._update_links)
        groups: dict[tuple[object, ...], list[SessionManager]] = {}
        for host, managers in self.managers.on.items():
            master = self._master(host)
            self._check_for_master(host)
            if master is None or host.node is None:
                continue
            about: tuple[object, ...] = (master, master.incarnation, host.node.view().term, world.reach.side(host))
            groups.setdefault(about, []).extend(
                m for m in managers if m.notified_by == host.incarnation or self._is_back_soon(m)
            )
        unlinked: dict[tuple[object, ...], float] = {}
        for about, members in groups.items():
            known = {m.host: self._members_known_to(m.host) for m in members}
            for n, one in enumerate(members):
                linked = self._links.setdefault(one, {})
                for other in members[n + 1 :]:
                    if other in linked and one in self._links.get(other, {}):
                        continue
                    if other.host is one.host or {one.host, other.host} & {*self.twins}:
                        continue
                    if other.host.member.id in known[one.host] and one.host.member.id in known[other.host]:
                        self._link(one, other, about, unlinked)
        self._unlinked = unlinked
        self._end_parted_links()

    def _is_back_soon(self, manager: SessionManager) -> bool:
        """Return whether it will soon connect to a daemon that has just started. It goes on with its keys meanwhile."""
        return manager.session is None and self._world.now < self._started_at[manager.host] + RECONNECT_WITHIN

    def _members_known_to(self, host: Host) -> frozenset[str]:
        """Return the ids of the members in the group view of a node."""
        group = None if host.node is None else host.node.group()
        return frozenset() if group is None else frozenset(m.id for m in group.members)

    def _link(
        self,
        one: SessionManager,
        other: SessionManager,
        about: tuple[object, ...],
        unlinked: dict[tuple[object, ...], float],
    ) -> None:
        if self._can_read(one, other) and self._can_read(other, one) and self._have_keys_of(about[0], one, other):
            if self._world.now - self._reach_changed_at >= self._world.bounds.cut_is_noticed_within:
                for sender, receiver in ((one, other), (other, one)):
                    if sender.sends is not None:
                        self._links.setdefault(sender, {}).setdefault(receiver, self._world.now)
            return
        pair = (one, one.host.incarnation, other, other.host.incarnation, *about)
        if one.lag or other.lag:
            # A slow manager falls behind if keys change faster than it installs them. The others hold three at most.
            newest = one.host.node.view().newest if one.host.node else None
            pair += (newest and newest.key.fingerprint,)
        since = unlinked[pair] = self._unlinked.get(pair, self._world.now)
        if self._world.now - since >= self._world.bounds.reads_within + one.lag + other.lag and self._keeps_datagrams:
            raise Broken("G9", f"{one.host.name} and {other.host.name} follow one master and cannot read each other")

    def _check_for_master(self, host: Host) -> None:
        if host.node is None or self._world.master_of(host) is not None:
            self._alone.pop(host, None)
        elif self._world.now - self._alone.setdefault(host, self._world.now) >= self._world.bounds.parted_after:
            self._end_links(host)

    def _end_parted_links(self) -> None:
        """End the links of two nodes that have followed different masters for longer than a join takes."""
        master_of = {host: self._world.master_of(host) for host in self.managers.on}
        if len({*master_of.values()} - {None}) < 2:
            self._parted.clear()
            return
        parted: dict[tuple[SessionManager, SessionManager], float] = {}
        for one, others in self._links.items():
            for other in list(others):
                masters = {master_of[one.host], master_of[other.host]}
                if len(masters) == 2 and None not in masters:
                    since = parted[one, other] = self._parted.get((one, other), self._world.now)
                    if self._world.now - since >= self._world.bounds.parted_after:
                        del others[other]
        self._parted = parted

    def _have_keys_of(self, master: object, *managers: SessionManager) -> bool:
        """Return whether a master holds the keys that they send with. They may drop any other key at any time."""
        if not isinstance(master, Host) or master.node is None:
            return False
        has = {e.key.fingerprint for e in master.node.view().keys}
        current = master.node.view().current
        if current is None or any(current.key.fingerprint not in m.knows for m in managers):
            return False
        return all(m.sends is None or m.sends[0] in has for m in managers)

    def _can_read(self, receiver: SessionManager, sender: SessionManager) -> bool:
        return sender.sends is None or sender.sends[0] in receiver.knows

    def _master(self, host: Host) -> Host | None:
        """Return the master of a host, if both are awake, reach each other and agree about it."""
        master = self._world.master_of(host)
        if host.node is None or host.is_paused or master is None or master.node is None or master.is_paused:
            return None
        is_one = master.node.view().role is Role.MASTER and master.node.view().term == host.node.view().term
        return master if is_one and self._world.reach.side(master) == self._world.reach.side(host) else None

    def _forget_manager(self, manager: SessionManager) -> None:
        self._end_links_of(manager)
        self._stopped.pop(manager, None)
        self._displaced.pop(manager, None)

    def _note_start(self, host: Host) -> None:
        self._started_at[host] = self._world.now

    def _end_links(self, host: Host) -> None:
        for manager in self.managers.on.get(host, []):
            self._end_links_of(manager)

    def _end_links_of(self, manager: SessionManager) -> None:
        self._links.pop(manager, None)
        for receivers in self._links.values():
            receivers.pop(manager, None)

    def _end_cut_links(self) -> None:
        reach = self._world.reach
        self._reach_changed_at = self._world.now
        for one, others in self._links.items():
            for other in list(others):
                if reach.side(one.host) != reach.side(other.host):
                    del others[other]

    # --- at the end ---------------------------------------------------------------------------------------------

    def check_flows(self) -> None:
        """Check that one sender of each host in a whole group sends with the current key, and all others read it."""
        world = self._world
        for host, managers in self.managers.on.items():
            senders = [m for m in managers if m.will_send]
            if host.node is None or not senders or self._master(host) is None:
                continue
            if sum(m.sends is not None for m in senders) != 1 and host.node.key_state().sender_id is not None:
                raise Broken("G19", f"{host.name}: {sum(m.sends is not None for m in senders)} of its processes send")
            sending = next((m for m in senders if m.sends is not None), None)
            current = host.node.view().current
            if sending is None or sending.sends is None or current is None:
                raise Broken("G19", f"{host.name} is mute")
            if sending.sends[0] != current.key.fingerprint:
                raise Broken("G19", f"{host.name} sends with {self._name(sending.sends[0])}")
            for others in self.managers.on.values():
                for other in others:
                    if self._master(other.host) is self._master(host) and not self._can_read(other, sending):
                        raise Broken(
                            "G19", f"{other.host.name} cannot read {host.name} in a quiet group ({world.now:.3f})"
                        )
