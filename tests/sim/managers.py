"""The session managers beside every node. They use `keys.sock` as the real ones do.

Each installs new keys, acknowledges them, and sends with the marked key. A session manager outlives a daemon that dies,
and connects to the next one with all its keys. Some install slowly, some never acknowledge, and some only receive. When
one is replaced, the new process may start before the old one has ended.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from pskkey.core.actions import Action, Send
from pskkey.core.events import Attached, Direction, Disconnected, Received, Session
from pskkey.model import KeyAck, KeyNew, KeyNewReason, KeyState, KeyWatch, Process
from pskkey.wire.packet import encode
from tests.sim.host import Host
from tests.sim.world import World

LONGEST_LAG = 8.0
"""Seconds that the slowest session manager takes to install a key."""

RECONNECT_WITHIN = 0.4
"""Seconds after the start of a daemon in which the session managers that outlived the last one have connected."""


@dataclass(eq=False)
class SessionManager:
    """One process.

    `knows`: the fingerprints of the keys that it can receive with; `sends`: the key and the id that it sends with, or
    None; `lag`: seconds from the arrival of a key to its installation.
    """

    host: Host
    process: Process
    will_send: bool
    lag: float = 0.0
    acknowledges: bool = True
    sequence_context: int = 0
    """The sequence context that it sends in KEY_WATCH; 0: none."""
    session: Session | None = None
    knows: frozenset[str] = frozenset()
    sends: tuple[str, int] | None = None
    state: bytes = b""
    """The bytes of the KEY_STATE that it has installed."""
    acked: set[tuple[int, str]] = field(default_factory=set)
    notified_at: dict[str, float] = field(default_factory=dict)
    """If it is slow: when each key first arrived, by fingerprint."""
    fresh_starts: int = 0
    """`Host.fresh_starts` when its daemon last let it send."""
    notified_by: int = 0
    """The incarnation of the daemon whose KEY_STATE it has installed last."""
    awaited_since: float | None = None
    """When it first acknowledged a key to the present daemon, which waits for it from then on."""


class Managers:
    """All session managers of a world.

    `changed` are called after a manager has installed a KEY_STATE, with its former `knows` and `sends`; `ended` are
    called after one has ended.
    """

    def __init__(self, world: World, *, calm: bool = False) -> None:
        self._world = world
        self._numbers = count(1)
        self._calm = calm
        self.started = 0
        """How many have started in all."""
        self._by_session: dict[Session, SessionManager] = {}
        self.on: dict[Host, list[SessionManager]] = {}
        """The running ones, by host."""
        self.epochs: dict[str, int] = {}
        """The epoch of each key that any manager has received, by fingerprint."""
        self.changed: list[Callable[[SessionManager, frozenset[str], tuple[str, int] | None], None]] = []
        self.ended: list[Callable[[SessionManager], None]] = []
        world.started.append(self._daemon_started)
        world.ended.append(self._daemon_ended)
        world.actions.append(self._performed)

    # --- starts and ends ----------------------------------------------------------------------------------------

    def start(self, host: Host, *, will_send: bool, lag: float = 0.0, acknowledges: bool = True) -> SessionManager:
        """Start a session manager on a host. It attaches if there is a daemon."""
        number = next(self._numbers)
        self.started += 1
        sequence_context = 0 if not self._calm and self._world.random.random() < 0.05 else 1000 + number
        process = Process(1000 + number, 0)
        manager = SessionManager(host, process, will_send, lag, acknowledges, sequence_context)
        self.on.setdefault(host, []).append(manager)
        self._attach(manager)
        return manager

    def end(self, manager: SessionManager) -> None:
        """End a session manager. The daemon sees that its connection closes."""
        host = manager.host
        if manager not in self.on.get(host, []):
            return
        self.on[host].remove(manager)
        session, manager.session, manager.sends = manager.session, None, None
        for listener in self.ended:
            listener(manager)
        if session is not None:
            del self._by_session[session]
            self._world.handle(host, Disconnected(session, "gone"))

    def replace(self, host: Host, overlap: float = 0.0) -> None:
        """Replace each by another process. The old ones stay for `overlap` seconds."""
        for old in list(self.on.get(host, [])):
            self._world.note(host, f"its session manager is replaced{' while it still runs' if overlap else ''}")
            if overlap:
                self._world.at(self._world.now + overlap, partial(self.end, old))
            else:
                self.end(old)
            self.start(host, will_send=old.will_send, lag=old.lag, acknowledges=old.acknowledges)

    def ask_for_new_key(self, host: Host) -> None:
        """Let one sender report that its sequence numbers run out."""
        for manager in self.on.get(host, []):
            if manager.will_send and manager.session is not None:
                self._world.note(host, "its session manager asks for a new key")
                self._world.handle(host, Received(manager.session, KeyNew(KeyNewReason.SEQUENCE_HIGH_WATER)))
                return

    def reconnect(self, host: Host) -> None:
        """Break the connection of each. It connects again at once."""
        for manager in list(self.on.get(host, [])):
            session, manager.session = manager.session, None
            if session is not None:
                del self._by_session[session]
                self._world.handle(host, Disconnected(session, "gone"))
            self._attach(manager)

    # --- with the daemon ----------------------------------------------------------------------------------------

    def _daemon_started(self, host: Host) -> None:
        random = self._world.random
        incarnation = host.incarnation
        if self.on.get(host):
            for manager in self.on[host]:
                self._later(random.uniform(0.01, RECONNECT_WITHIN), host, incarnation, partial(self._attach, manager))
            return
        kinds = [{"will_send": True}] if self._calm else self._draw_kinds()
        for kind in kinds:
            self._later(random.uniform(0.0, 0.2), host, incarnation, partial(self.start, host, **kind))

    def _draw_kinds(self) -> list[dict[str, bool | float]]:
        random = self._world.random
        what = random.random()
        if what < 0.75:
            return [{"will_send": True}]
        if what < 0.80:
            return [{"will_send": False}]
        if what < 0.85:
            return [{"will_send": True, "lag": random.uniform(0.1, LONGEST_LAG)}]
        if what < 0.90:
            return [{"will_send": True, "acknowledges": False}]
        if what < 0.95:
            return [{"will_send": True}, {"will_send": False}]
        return [{"will_send": True}, {"will_send": True}]

    def _later(self, delay: float, host: Host, incarnation: int, what: Callable[[], object]) -> None:
        def do() -> None:
            if host.incarnation == incarnation:
                what()

        self._world.at(self._world.now + delay, do)

    def _daemon_ended(self, host: Host) -> None:
        for manager in list(self.on.get(host, [])):
            if manager.session is not None:
                del self._by_session[manager.session]
                manager.session = None
            if host.is_off:
                self.on[host].remove(manager)
                manager.sends = None
                for listener in self.ended:
                    listener(manager)

    def _attach(self, manager: SessionManager) -> None:
        host = manager.host
        if host.node is None or manager.session is not None or manager not in self.on[host]:
            return
        session = manager.session = Session(Direction.LOCAL, next(self._numbers))
        self._by_session[session] = manager
        manager.acked.clear()
        manager.awaited_since = None
        self._world.handle(host, Attached(session, manager.process))
        self._world.handle(host, Received(session, KeyWatch(manager.will_send, manager.sequence_context)))

    def _performed(self, host: Host, action: Action) -> None:
        match action:
            case Send(session, KeyState() as state) if (manager := self._by_session.get(session)) is not None:
                packet = encode(state)  # at once, because the node wipes the keys that it drops
                listed = tuple((e.epoch, e.key.fingerprint) for e in state.entries)
                self.epochs |= {e.key.fingerprint: e.epoch for e in state.entries}
                marked = next((e.key.fingerprint for e in state.entries if e.send), None)
                sends = None if marked is None or state.sender_id is None else (marked, state.sender_id)
                install = partial(self._install, manager, session, host.incarnation, packet, listed, sends)
                if manager.lag:
                    for _, fingerprint in listed:
                        manager.notified_at.setdefault(fingerprint, self._world.now)
                    self._world.at(self._world.now + manager.lag, install)
                else:
                    install()
            case _:
                return

    def _install(
        self,
        manager: SessionManager,
        session: Session,
        incarnation: int,
        packet: bytes,
        listed: tuple[tuple[int, str], ...],
        sends: tuple[str, int] | None,
    ) -> None:
        if manager.session != session:
            return
        world = self._world
        manager.acked &= set(listed)
        if manager.acknowledges:
            for one in listed:
                if one not in manager.acked:
                    manager.acked.add(one)
                    delay = 0.0 if manager.lag else world.random.uniform(0.0001, 0.02)
                    world.at(world.now + delay, partial(self._acknowledge, manager, session, one[0]))
        knew, sent = manager.knows, manager.sends
        manager.knows = frozenset(p for _, p in listed)
        manager.sends = sends
        manager.state = packet
        manager.notified_by = incarnation
        for listener in self.changed:
            listener(manager, knew, sent)

    def _acknowledge(self, manager: SessionManager, session: Session, epoch: int) -> None:
        if manager.session == session:
            manager.awaited_since = manager.awaited_since or self._world.now
            self._world.handle(manager.host, Received(session, KeyAck(epoch)))
