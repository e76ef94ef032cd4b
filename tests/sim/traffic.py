"""What must hold of the datagrams that session managers send, looked at whenever anything changes, so never between.

No two processes ever send under one (key, sender id): each counts its sequence numbers from zero.

Two session managers become *linked* when they are members of one master, as both were told, and each can read the
other; also one that is on its way back to a daemon that has just started, for it goes on with the keys that it has.
From then on every datagram must be readable at its receiver, while it is sent and for `FLIGHT` after that, whatever
happens to others: masters die, keys roll, halves merge. The link ends when one of the two devices or daemons dies,
sleeps or finds its clock ahead, when it has to listen for a group anew, when a process ends, or when somebody can reach
one of the two and not the other. So a key is neither sent with too early nor dropped too soon. Who installs slowly is
waited for until the activation deadline, as is everybody. Excused, and counted, is a receiver that has no room for a
key among its three, or holds another one of its epoch.

Members of one master, undisturbed for `Bounds.reads_within`, must be linked. And a sender falls mute only for one of
the reasons in `mute`.

That who has the key of a datagram gets what is in it, `datagrams` claims of real ones.
"""

from collections import Counter

from pskkey.core.actions import Action
from pskkey.core.notices import KeyRolled, MasterJoined, RoleChanged
from pskkey.model import MAX_KEY_ENTRIES, Process, Role
from tests.sim.datagrams import FLIGHT, Datagrams
from tests.sim.host import Broken, Host
from tests.sim.managers import COME_BACK_WITHIN, Managers, SessionManager
from tests.sim.mute import BY_NONSENSE, UNEXPLAINED, why_mute
from tests.sim.world import World

LOOK_EVERY = 0.25
"""Seconds between two looks for pairs that have become fellow members; what they can read is looked at always."""


class Traffic:
    """Watches all session managers of a world. `strict` is False while a peer talks nonsense with our PSK."""

    def __init__(self, world: World, *, calm: bool = False) -> None:
        self._world = world
        self.managers = Managers(world, calm=calm)
        self._senders: dict[tuple[str, int], Process] = {}
        self._links: dict[SessionManager, dict[SessionManager, float]] = {}
        """Who is linked with whom, both ways, and since when."""
        self._parted: dict[tuple[SessionManager, SessionManager], float] = {}
        """Since when two that are linked have followed different masters."""
        self._alone: dict[Host, float] = {}
        """Since when a node has had no master."""
        self._reach_changed_at = 0.0
        self._stopped: dict[SessionManager, dict[str, float]] = {}
        """By sender: when it sent with a key for the last time."""
        self._fellows: dict[tuple[object, ...], float] = {}
        self._distributed: dict[str, float] = {}
        self.strict = True
        self.foreign: set[str] = set()
        """The fingerprints of keys that no node of ours has made."""
        self.twins: tuple[Host, ...] = ()
        """Hosts with the same id: one is refused now and again, and what is leased to one is leased to the other."""
        self.mute: Counter[str] = Counter()
        """How often a sender fell mute, by the reason."""
        self.lapsed = 0
        """How often a node went back to listening."""
        self._made_way: dict[SessionManager, set[str]] = {}
        """By receiver: the keys that it could not hold beside another one of their epoch."""
        self.excused: Counter[str] = Counter()
        """How often a datagram could not be read, and need not be, by the reason."""
        self._used_since: dict[str, float] = {}
        self._joined_at: dict[Host, float] = {}
        self._started_at: dict[Host, float] = {}
        self.managers.changed.append(self._installed)
        self.managers.gone.append(self._forget)
        self.datagrams = Datagrams(world, self.managers, self._vouches_for)
        world.started.append(self._host_started)
        world.ended.append(self._host_disturbed)
        world.disturbed.append(self._host_disturbed)
        world.reach.changed.append(self._reach_changed)
        world.actions.append(self._told)
        world.at(LOOK_EVERY, self._look)

    # --- what is sent -------------------------------------------------------------------------------------------

    def _installed(self, manager: SessionManager, knew: frozenset[str], sent: tuple[str, int] | None) -> None:
        now = self._world.now
        if manager.sends != sent:
            if sent is not None:
                self._stopped.setdefault(manager, {})[sent[0]] = now
            if manager.sends is not None:
                self._begins(manager)
            elif sent is not None:
                self._falls_mute(manager)
        if knew - manager.knows and not manager.lag:
            for sender in self._links.get(manager, ()):
                self._check(sender, manager, now)
        if manager.sends != sent:
            for receiver in self._links.get(manager, ()):
                self._check(manager, receiver, now)

    def _begins(self, manager: SessionManager) -> None:
        sends = manager.sends
        assert sends is not None
        manager.context = manager.host.context
        self._used_since.setdefault(sends[0], self._world.now)
        first = self._senders.setdefault(sends, manager.process)
        if first != manager.process and sends[0] not in self.foreign and manager.host not in self.twins:
            raise Broken(
                "G1",
                f"{manager.host.name}: process {manager.process.pid} sends as {sends[1]} with key "
                f"{self._name(sends[0])}, and so did process {first.pid}: sequence numbers repeat",
            )

    def _vouches_for(self, sender: SessionManager, key: str) -> bool:
        """Twins send under one lease, and so with the same numbers; nonsense may give anybody any lease."""
        return self.strict and key not in self.foreign and sender.host not in self.twins

    @property
    def _keeps_datagrams(self) -> bool:
        """Whether a datagram has to be readable: no nonsense is talked, and the timings of the group allow it."""
        return self.strict and self._world.bounds.keeps_datagrams

    def _falls_mute(self, manager: SessionManager) -> None:
        reason = why_mute(manager, self.managers)
        self.mute[reason] += 1
        self._world.note(manager.host, f"its session manager falls mute: {reason}")
        if reason == UNEXPLAINED or (reason == BY_NONSENSE and self.strict):
            raise Broken("G11", f"{manager.host.name}: its session manager falls mute: {reason}")

    def _check(self, sender: SessionManager, receiver: SessionManager, now: float) -> None:
        if sender.lag:
            return  # it goes on with a key whose turn is over
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
                    f"{sender.host.name} sends with key {self._name(key)}, which its fellow member "
                    f"{receiver.host.name} cannot read (it has {held})",
                )

    def _was_too_slow(self, receiver: SessionManager, key: str, now: float) -> bool:
        distributed = self._distributed.get(key, now)
        if receiver.lag and receiver.told_at.get(key, now) >= self._used_since[key]:
            return True  # it came when the key was in use already
        if receiver.lag and self._joined_at.get(receiver.host, 0.0) > distributed:
            return True  # its master has not distributed the key to it
        if not receiver.lag or receiver.awaited_since is None or receiver.awaited_since > distributed:
            return bool(receiver.lag)
        return now - distributed >= self._world.bounds.fastest.activation_deadline * 0.99

    def _is_ambiguous(self, receiver: SessionManager, key: str) -> bool:
        """A record names its key by the epoch: of two keys of one epoch, from two halves, one makes way for good."""
        epochs, gone = self.managers.epochs, self._made_way.setdefault(receiver, set())
        if any(epochs[known] == epochs[key] for known in receiver.knows):
            gone.add(key)
        return key in gone

    def _has_no_room(self, receiver: SessionManager, key: str) -> bool:
        """Three keys are the most; where parts meet that have rolled again and again, one of the oldest must go."""
        node = receiver.host.node
        if node is None or len(receiver.knows) < MAX_KEY_ENTRIES:
            return False
        master = self._world.master_of(receiver.host)
        current = None if master is None or master.node is None else master.node.view().current
        return current is None or current.key.fingerprint != key

    def _told(self, host: Host, action: Action) -> None:
        match action:
            case RoleChanged(role=Role.LISTENING):
                self.lapsed += 1
                self._host_disturbed(host)
            case MasterJoined():
                self._joined_at[host] = self._world.now
            case KeyRolled(fingerprint=fingerprint):
                self._distributed[fingerprint] = self._world.now
            case _:
                return

    def _name(self, fingerprint: str) -> str:
        return self._world.keys.get(fingerprint, fingerprint)

    # --- who is linked ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        world = self._world
        world.at(world.now + LOOK_EVERY, self._look)
        groups: dict[tuple[object, ...], list[SessionManager]] = {}
        for host, managers in self.managers.on.items():
            master = self._master(host)
            self._look_whether_alone(host)
            if master is None or host.node is None:
                continue
            about: tuple[object, ...] = (master, master.incarnation, host.node.view().term, world.reach.side(host))
            groups.setdefault(about, []).extend(
                m for m in managers if m.told_by == host.incarnation or self._is_back_soon(m)
            )
        fellows: dict[tuple[object, ...], float] = {}
        for about, members in groups.items():
            known = {m.host: self._knows(m.host) for m in members}
            for n, one in enumerate(members):
                linked = self._links.setdefault(one, {})
                for other in members[n + 1 :]:
                    if other in linked or other.host is one.host or {one.host, other.host} & {*self.twins}:
                        continue
                    if other.host.member.id in known[one.host] and one.host.member.id in known[other.host]:
                        self._meet(one, other, about, fellows)
        self._fellows = fellows
        self._part()

    def _is_back_soon(self, manager: SessionManager) -> bool:
        """It goes on with the keys that it has, and its daemon, which has just started, may not count without it."""
        return manager.session is None and self._world.now < self._started_at[manager.host] + COME_BACK_WITHIN

    def _knows(self, host: Host) -> frozenset[str]:
        """Return the members of its group as a node was told of them."""
        group = None if host.node is None else host.node.group()
        return frozenset() if group is None else frozenset(m.id for m in group.members)

    def _meet(
        self,
        one: SessionManager,
        other: SessionManager,
        about: tuple[object, ...],
        fellows: dict[tuple[object, ...], float],
    ) -> None:
        if self._reads(one, other) and self._reads(other, one) and self._are_of(about[0], one, other):
            if self._world.now - self._reach_changed_at >= self._world.bounds.cut_is_noticed_within:
                self._links[one][other] = self._links.setdefault(other, {})[one] = self._world.now
            return
        pair = (one, one.host.incarnation, other, other.host.incarnation, *about)
        if one.lag or other.lag:
            # Keys that roll faster than one installs them leave it behind; three are the most that the others hold.
            newest = one.host.node.view().newest if one.host.node else None
            pair += (newest and newest.key.fingerprint,)
        since = fellows[pair] = self._fellows.get(pair, self._world.now)
        if self._world.now - since >= self._world.bounds.reads_within + one.lag + other.lag and self._keeps_datagrams:
            raise Broken("G9", f"{one.host.name} and {other.host.name} follow one master and cannot read each other")

    def _look_whether_alone(self, host: Host) -> None:
        if host.node is None or self._world.master_of(host) is not None:
            self._alone.pop(host, None)
        elif self._world.now - self._alone.setdefault(host, self._world.now) >= self._world.bounds.parted_after:
            self._host_disturbed(host)

    def _part(self) -> None:
        """End the links of two nodes with different masters for longer than it takes to join; a master may be dead."""
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

    def _are_of(self, master: object, *managers: SessionManager) -> bool:
        """Tell whether a master has what they send with: what is only left over may be dropped at any time."""
        if not isinstance(master, Host) or master.node is None:
            return False
        has = {e.key.fingerprint for e in master.node.view().keys}
        current = master.node.view().current
        if current is None or any(current.key.fingerprint not in m.knows for m in managers):
            return False
        return all(m.sends is None or m.sends[0] in has for m in managers)

    def _reads(self, receiver: SessionManager, sender: SessionManager) -> bool:
        return sender.sends is None or sender.sends[0] in receiver.knows

    def _master(self, host: Host) -> Host | None:
        """Return the master of a host, if both are awake and reach each other, and it is so in both their eyes."""
        master = self._world.master_of(host)
        if host.node is None or host.paused or master is None or master.node is None or master.paused:
            return None
        is_one = master.node.view().role is Role.MASTER and master.node.view().term == host.node.view().term
        return master if is_one and self._world.reach.side(master) == self._world.reach.side(host) else None

    def _forget(self, manager: SessionManager) -> None:
        for other in self._links.pop(manager, ()):
            self._links[other].pop(manager, None)
        self._stopped.pop(manager, None)
        self._made_way.pop(manager, None)

    def _host_started(self, host: Host) -> None:
        self._started_at[host] = self._world.now

    def _host_disturbed(self, host: Host) -> None:
        for manager in self.managers.on.get(host, []):
            for other in self._links.pop(manager, ()):
                self._links[other].pop(manager, None)

    def _reach_changed(self) -> None:
        reach = self._world.reach
        self._reach_changed_at = self._world.now
        for one, others in self._links.items():
            for other in list(others):
                if reach.side(one.host) != reach.side(other.host):
                    del others[other]

    # --- at the end ---------------------------------------------------------------------------------------------

    def check_flows(self) -> None:
        """In a group that is whole, one sender of each host sends, with the master's key, and all others read it."""
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
                    if self._master(other.host) is self._master(host) and not self._reads(other, sending):
                        raise Broken(
                            "G19", f"{other.host.name} cannot read {host.name} in a quiet group ({world.now:.3f})"
                        )
