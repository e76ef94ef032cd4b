"""A session manager beside every node, and what must hold of the datagrams that it would send.

It follows `keys.sock` as the real ones do: installs what is new, acknowledges it, sends with the marked key and counts
its sequence numbers from zero under each key. That makes three things checkable from outside: no two processes ever
send under one (key, sender id), nobody sends with a key that a fellow member cannot read, and a new key is not sent
with before all fellow members hold it or its deadline has passed.
"""

from dataclasses import dataclass, field
from itertools import count

from pskkey.core.actions import Action, Send
from pskkey.core.events import Attached, Direction, Disconnected, Received, Session
from pskkey.model import KeyAck, KeyState, KeyWatch, Process, Role
from tests.sim.host import Host
from tests.sim.invariants import Broken
from tests.sim.world import World

SAMPLE_EVERY = 0.25
"""Seconds between two looks at who sends with what."""

SETTLED_AFTER = 2.5
"""Seconds that two nodes must have been undisturbed members of one master before their datagrams are looked at."""


@dataclass(eq=False)
class SessionManager:
    """One process on one host; `knows` are the fingerprints that it can receive with, `sends` what it sends with."""

    host: Host
    process: Process
    session: Session
    knows: frozenset[str] = frozenset()
    sends: tuple[str, int] | None = None
    acked: set[tuple[int, str]] = field(default_factory=set)


class Traffic:
    """All session managers of a world. They die and start with their hosts, and now and then by themselves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)
        self._managers: dict[Host, SessionManager] = {}
        self._lives: dict[Host, int] = {}
        self._senders: dict[tuple[str, int], Process] = {}
        self._together: dict[tuple[object, ...], float] = {}
        self.used: set[str] = set()
        """The fingerprints of all keys that anything was sent with."""
        world.watchers.append(self._performed)
        world.after_step.append(self._stepped)
        world.at(SAMPLE_EVERY, self._sample)

    def restart(self, host: Host) -> None:
        """Let the session manager of a host end and another one begin."""
        old = self._managers.pop(host, None)
        if old is not None and host.node is not None:
            self._world.note(host, "its session manager restarts")
            self._world.handle(host, Disconnected(old.session, "gone"))
            self._attach(host)

    def _stepped(self, host: Host) -> None:
        if self._lives.get(host) != host.incarnation:
            # A new life of the host: everything on it has started anew.
            self._lives[host] = host.incarnation
            self._managers.pop(host, None)
            self._world.at(self._world.now + self._world.random.uniform(0.0, 0.2), lambda: self._attach(host))

    def _attach(self, host: Host) -> None:
        if host.node is None or host in self._managers:
            return
        number = next(self._numbers)
        session = Session(Direction.LOCAL, number)
        manager = SessionManager(host, Process(1000 + number, 0, number), session)
        self._managers[host] = manager
        self._world.handle(host, Attached(session, manager.process))
        self._world.handle(host, Received(session, KeyWatch(will_send=True)))

    def _performed(self, host: Host, action: Action) -> None:
        manager = self._managers.get(host)
        match action:
            case Send(session, KeyState() as state) if manager is not None and session == manager.session:
                self._install(manager, state)
            case _:
                return

    def _install(self, manager: SessionManager, state: KeyState) -> None:
        world = self._world
        prints = {(e.epoch, e.key.fingerprint) for e in state.entries}
        manager.knows = frozenset(p for _, p in prints)
        manager.acked &= prints
        for epoch, fingerprint in sorted(prints - manager.acked):
            manager.acked.add((epoch, fingerprint))
            delay = world.random.uniform(0.0001, 0.02)
            world.at(world.now + delay, lambda epoch=epoch: self._acknowledge(manager, epoch))  # type: ignore[misc]
        marked = next((e.key.fingerprint for e in state.entries if e.send), None)
        manager.sends = None if marked is None or state.sender_id is None else (marked, state.sender_id)
        if manager.sends is not None:
            self.used.add(manager.sends[0])
            first = self._senders.setdefault(manager.sends, manager.process)
            if first != manager.process:
                raise Broken(
                    f"{manager.host.name}: process {manager.process.pid} sends as {manager.sends[1]} with key "
                    f"{manager.sends[0]}, and so did process {first.pid}: sequence numbers repeat"
                )

    def _acknowledge(self, manager: SessionManager, epoch: int) -> None:
        if self._managers.get(manager.host) is manager:
            self._world.handle(manager.host, Received(manager.session, KeyAck(epoch)))

    # --- who can read whom --------------------------------------------------------------------------------------

    def _sample(self) -> None:
        world = self._world
        world.at(world.now + SAMPLE_EVERY, self._sample)
        now_together = {}
        for sender in self._managers.values():
            for receiver in self._managers.values():
                master = self._common_master(sender.host, receiver.host)
                if sender is receiver or master is None or master.node is None:
                    continue
                lives = tuple((h, h.incarnation) for h in (sender.host, receiver.host, master))
                pair = (*lives, sender, receiver, master.node.election.term)
                now_together[pair] = self._together.get(pair, world.now)
                if world.now - now_together[pair] >= self._settled_after(sender, receiver, master):
                    self._check(sender, receiver)
        self._together = now_together

    def _settled_after(self, sender: SessionManager, receiver: SessionManager, master: Host) -> float:
        """A key of one's own half, from before a merge, may stay in use until it is superseded or given up.

        It can stand in the way of the other half's key of the same epoch.
        """
        assert master.node is not None
        known = {e.key.fingerprint for e in master.node.keyring.entries}
        timing = sender.host.timing
        own_half = timing.activation_deadline + 2 * timing.rekey_spacing
        is_one_group = all(m.sends is None or m.sends[0] in known for m in (sender, receiver))
        return SETTLED_AFTER if is_one_group else SETTLED_AFTER + own_half

    def _common_master(self, a: Host, b: Host) -> Host | None:
        """Return the master of both, if they are awake members of one term and all three reach each other."""
        if a.node is None or b.node is None or a.paused or b.paused:
            return None
        one, other = a.node.election, b.node.election
        if one.master is None or other.master is None or one.master.id != other.master.id or one.term != other.term:
            return None
        master = next(h for h in self._world.hosts if h.member.id == one.master.id)
        if master.paused or master.node is None or master.node.election.role is not Role.MASTER:
            return None
        hosts = {a, b, master}
        return None if any((x, y) in self._world.cut for x in hosts for y in hosts) else master

    def _check(self, sender: SessionManager, receiver: SessionManager) -> None:
        if sender.sends is not None and sender.sends[0] not in receiver.knows:
            raise Broken(
                f"{sender.host.name} sends with key {sender.sends[0]}, which its fellow member {receiver.host.name} "
                f"cannot read (it has {', '.join(sorted(receiver.knows)) or 'none'})"
            )
