"""A whole group in one process: real cores, real wire bytes, a seeded network and virtual time.

Nothing here depends on how an election works. A host has a process that runs our node (or a stranger's program), a
clock of its own, and the sockets of its kernel. `schedule` has the time, `reach` has the ways between hosts, and
`adverts` and `streams` carry the packets. A daemon that dies leaves its persisted state to the next daemon of that
host, and its session managers live on. A device that dies leaves nothing.
"""

from collections.abc import Callable
from functools import partial
from itertools import count

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Send, Stopped
from pskkey.core.events import Direction, Event, KeyGenerated, PskChanged, Started, Timeout
from pskkey.core.node import Node
from pskkey.core.notices import Notice
from pskkey.core.settings import Settings, Timing
from pskkey.daemon.driver import TURN_BUDGET as TURN
from pskkey.daemon.event_table import EVENT_OF, sentence
from pskkey.model import Key, Member, PskName, Role, Suite
from pskkey.secret import Secret
from tests.sim.adverts import Adverts
from tests.sim.bounds import Bounds
from tests.sim.host import Broken, Conditions, Host, Program
from tests.sim.processor import Costs, Processor
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule
from tests.sim.streams import Streams
from tests.sim.versions import Versions

INEXACT = 1e-6
"""Seconds by which two calculations of the same time may differ."""


class World:
    """The hosts, the network between them, and the time.

    The lists of callables (`events`, `actions`, `after_step`, `started`, `ending`, `ended`, `disturbed`) have the
    observers.
    """

    def __init__(self, seed: int, conditions: Conditions | None = None) -> None:
        self.schedule = Schedule(seed)
        self.random = self.schedule.random
        self.at = self.schedule.at
        self.conditions = conditions or Conditions()
        self.bounds = Bounds()
        """The bounds that follow from the timings of its nodes."""
        self.hosts: list[Host] = []
        self.reach = Reach(self.hosts)
        shared = (self.schedule, self.hosts, self.reach, self.conditions, self.handle)
        self.adverts = Adverts(*shared)
        self.streams = Streams(*shared)
        self.transcript: list[str] = []
        self.events: list[Callable[[Host, Event], None]] = []
        """Called before a node handles an event."""
        self.actions: list[Callable[[Host, Action], None]] = []
        """Called after each action."""
        self.after_step: list[Callable[[Host], None]] = []
        """Called after all actions of an event."""
        self.started: list[Callable[[Host], None]] = []
        """Called when a node has been made, before it handles `Started`."""
        self.ending: list[Callable[[Host], None]] = []
        """Called just before the process of a host ends."""
        self.ended: list[Callable[[Host], None]] = []
        """Called when the process of a host has ended. If `host.is_off`, all its processes are."""
        self.disturbed: list[Callable[[Host], None]] = []
        """Called when a host is paused or its clock has jumped."""
        self.dies_before: dict[Host, int] = {}
        """The hosts whose process dies in its next step, each with the number of actions that it performs before."""
        self.make_node = Node
        """The class of a node. A test may give a defective one, to see that the defect is found."""
        self.keys: dict[str, str] = {}
        """The name of each key, K1, K2..., by its fingerprint."""
        self._numbers = count(1)
        self._versions: Versions | None = None

    @property
    def now(self) -> float:
        """Return the virtual time, seconds."""
        return self.schedule.now

    def run_until(self, end: float) -> None:
        """Make all calls that are due up to virtual time `end`."""
        self.schedule.run_until(end)

    def use_versions(self, versions: Versions) -> None:
        """Give each daemon that starts one of two versions."""
        self._versions = versions
        self.streams.sent = versions.sent

    # --- hosts --------------------------------------------------------------------------------------------------

    def add(
        self,
        *,
        priority: int = 100,
        eligible: bool = True,
        timing: Timing | None = None,
        sender_id: int | None = None,
        max_members: int = 1024,
        node_id: str | None = None,
        stranger: Program | None = None,
        costs: Costs | None = None,
    ) -> Host:
        """Add a host; its process does not run yet. `costs`: those of its processor; None: it has none."""
        number = len(self.hosts) + 1
        # Ids are scattered so that their order is not the order of creation.
        own_id = f"{(number * 2654435761) % 2**32:08x}{number:024x}"
        address = (f"10.0.{number // 250}.{number % 250 + 1}",)
        member = Member(node_id or own_id, f"n{number}", address, 11111, priority, eligible, sender_id)
        host = Host(member.name, member, timing or Timing(), max_members)
        host.processor = None if costs is None else Processor(self.schedule, costs)
        self.hosts.append(host)
        if stranger is not None:
            self.start_stranger(host, stranger)
        return host

    def start_stranger(self, host: Host, stranger: Program) -> None:
        """Start a program that is not ours on a host."""
        host.stranger = stranger
        self.note(host, "is not our node")
        self.handle(host, Started())

    def start(self, host: Host, *, forgetful: bool = False) -> None:
        """Start the daemon of a host with its persisted state. There is none after a power loss or if `forgetful`."""
        host.incarnation += 1
        host.is_paused = False
        host.psks = host.psk_file
        if forgetful or host.is_off:
            host.saved = None
        host.is_off = False
        host.fresh_starts += host.saved is None
        if self._versions is not None:
            self._versions.install(host)
        settings = Settings(
            "sim",
            host.member,
            f"{host.name}-{host.incarnation}",
            f"{host.name}-{host.incarnation}-",
            max_members=host.max_members,
            preempt=host.preempt,
            timing=host.timing,
            suite=host.suite,
        )
        host.node = self.make_node(settings, host.saved)
        host.saved = None
        self.note(host, "starts")
        for observer in self.started:
            observer(host)
        if host.prefixes:
            self.handle(host, host.network)
        self.handle(host, Started())
        host.cache.clear()

    def reload(self, host: Host) -> None:
        """Read the PSK file again, as at SIGHUP. Sessions that peers have opened with a removed PSK end."""
        host.psks = host.psk_file
        if host.program is None:
            return
        host.cache.clear()  # all adverts are verified again
        self.note(host, f"reads its PSK file again: {', '.join(host.psks)}")
        active, *_ = names = [PskName(psk) for psk in host.psks]
        self.handle(host, PskChanged(active, frozenset(names)))
        self.streams.end_removed(host)

    def crash(self, host: Host) -> None:
        """Kill the daemon. It sends no goodbye. Its kernel ends its sessions as far as the network lets it."""
        self.note(host, "dies")
        self._end(host)

    def power_off(self, host: Host) -> None:
        """Cut the power of a device. It sends nothing, its sessions are silent, and its advert stays in the caches."""
        self.note(host, "loses its power")
        host.is_off = True
        self.streams.drop_all(host)
        self._end(host)

    def pause(self, host: Host) -> None:
        """Pause the daemon, as by SIGSTOP. The kernel goes on accepting and buffering."""
        self.note(host, "is paused")
        host.is_paused, host.paused_at = True, self.schedule.now
        if host.processor is not None:
            host.processor.pause()
        for observer in self.disturbed:
            observer(host)

    def wake(self, host: Host) -> None:
        """Resume the daemon, as by SIGCONT. All events that waited arrive at once."""
        self.note(host, "wakes")
        host.is_paused = False
        if host.processor is not None:
            host.processor.wake()
        elif host.due is not None and host.due <= self.schedule.now:
            self._step(host, Timeout(self.schedule.now - host.paused_at))
        backlog, host.backlog = host.backlog, []
        for event in backlog:
            self.handle(host, event)
        self._arm(host)

    def leap(self, host: Host, seconds: float) -> None:
        """Advance the clock of a host at once, as when a suspended machine resumes."""
        self.note(host, f"finds its clock {seconds:.0f} s ahead")
        host.clock_ahead += seconds
        for observer in self.disturbed:
            observer(host)
        self._arm(host)

    def _end(self, host: Host) -> None:
        for observer in self.ending:
            observer(host)
        if host.node is not None and not host.is_off:
            host.saved = host.node.saved_state()
            if self._versions is not None:
                host.saved = self._versions.saved(host, host.saved)
        host.node = None
        host.stranger = None
        host.announced = None
        host.is_paused = False
        host.backlog.clear()
        host.incarnation += 1
        host.due = host.timer_at = None
        host.timeout_waits = host.is_marked = False
        host.read_until = self.schedule.now
        if host.processor is not None:
            host.processor.end_process()
            self.streams.dials.end_process(host)
        for session in list(host.streams):
            self.streams.close(host, session, "connection reset")
        for observer in self.ended:
            observer(host)

    def master_of(self, host: Host) -> Host | None:
        """Return the peer of a node's session with its master, or the host itself if it is master."""
        if host.node is None:
            return None
        if host.node.view().role is Role.MASTER:
            return host
        session = host.node.view().master_session
        stream = None if session is None else host.streams.get(session)
        return None if stream is None else stream.other(host)

    # --- a step of a node ---------------------------------------------------------------------------------------

    def handle(self, host: Host, event: Event) -> None:
        """Give an event to the program of a host, now or when it wakes, and perform the actions that it returns.

        A host with a processor handles the event after its other work.
        """
        processor = host.processor
        if processor is None:
            self._step(host, event)
        elif processor.is_running:
            processor.spend(processor.costs.event)
            self._step(host, event)
        elif host.program is not None:
            processor.add(processor.costs.event, partial(self._step, host, event))

    def _step(self, host: Host, event: Event) -> None:
        program = host.program
        if program is None:
            return
        if host.is_paused:
            if not isinstance(event, Timeout):
                host.backlog.append(event)
            return
        for observe in self.events:
            observe(host, event)
        actions = program.handle(event, host.clock(self.schedule.now))
        if self.dies_before and host in self.dies_before:
            actions = actions[: self.dies_before[host]]
        for action in actions:
            self._perform(host, action)
            for observer in self.actions:
                observer(host, action)
            if host.program is not program:
                if isinstance(action, Stopped) and action is not actions[-1]:
                    raise Broken("G5", f"{host.name} returns {type(actions[-1]).__name__} after it has stopped")
                return
        if self.dies_before and self.dies_before.pop(host, None) is not None:
            self.crash(host)
            return
        self._arm(host)
        for check in self.after_step:
            check(host)

    def _arm(self, host: Host) -> None:
        program = host.program
        deadline = None if program is None else program.next_deadline()
        if deadline is None:
            host.due = None
            return
        # While the node waits until it has read what arrived, it times out in each turn of its event loop.
        host.due = max(host.when(deadline), self.schedule.now + (TURN if host.is_marked else 0.0))
        if host.timer_at is None or host.due < host.timer_at:
            host.timer_at = host.due
            self.at(host.due, partial(self._expire_timer, host))

    def _expire_timer(self, host: Host) -> None:
        if host.timer_at != self.schedule.now:
            return  # it was set again
        host.timer_at = None
        if host.due is None:
            return
        if host.due > self.schedule.now:
            host.timer_at = host.due
            self.at(host.due, partial(self._expire_timer, host))
        elif host.processor is None:
            self.handle(host, Timeout())
        elif not host.timeout_waits:
            host.timeout_waits = True
            host.processor.add_next(host.processor.costs.event, partial(self._time_out, host))

    def _time_out(self, host: Host) -> None:
        """Let the node time out before its other work, as the driver does, and then again when that is done."""
        host.timeout_waits = False
        now = self.schedule.now
        if host.due is None or host.due > now:  # another event was handled before
            return
        self._step(host, Timeout(max(0.0, now - host.read_until)))
        if host.due is not None and host.due <= now + INEXACT and host.processor and not host.is_marked:
            host.is_marked = True
            host.processor.add(0.0, partial(self._note_read, host, now))
        self._arm(host)

    def _note_read(self, host: Host, until: float) -> None:
        """Let the node time out if it has waited until it had read all that arrived before `until`."""
        host.read_until, host.is_marked = until + INEXACT, False
        if host.due is not None and host.due <= self.schedule.now + TURN:
            self._step(host, Timeout(max(0.0, self.schedule.now - host.read_until)))

    def _perform(self, host: Host, action: Action) -> None:
        match action:
            case Send(session, message):
                if session.direction is not Direction.LOCAL:
                    self.streams.send(host, session, message)
            case Connect():
                self.streams.connect(host, action)
            case Disconnect(session, error):
                if error is not None:
                    self.streams.send(host, session, error)
                self.streams.close(host, session, "connection closed")
            case Advertise(advert, is_news):
                if is_news:
                    self.adverts.announce(host, advert)
                else:
                    host.announced = advert
            case GenerateKey(suite):
                self.at(self.now, partial(self._give_key, host, host.incarnation, suite))
            case Notice():
                self.note(host, f"{EVENT_OF[type(action)]}: {sentence(action)}")
            case Stopped():
                self.note(host, "has stopped")
                host.announced = None
                self._end(host)

    def _give_key(self, host: Host, incarnation: int, suite: Suite) -> None:
        if host.incarnation == incarnation:
            self.handle(host, KeyGenerated(self.fresh_key(suite)))

    def fresh_key(self, suite: Suite = Suite.PSK_CHACHA20_POLY1305) -> Key:
        """Return a key that has never been made before, and record its name in `keys`."""
        number = next(self._numbers)
        pms = b"\xfe\xfd" + number.to_bytes(46, "big") + bytes(16)
        key = Key(Secret(pms), bytes(32), number.to_bytes(32, "big"), suite)
        self.keys[key.fingerprint] = f"K{number}"
        return key

    def note(self, host: Host, text: str) -> None:
        """Add a line to the transcript."""
        self.transcript.append(f"{self.schedule.now:9.3f} {host.name:>4} {text}")
