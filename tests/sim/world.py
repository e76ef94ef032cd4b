"""A whole group in one process: real cores, real wire bytes, a seeded network and virtual time.

Nothing here knows how an election works. A host has a process that runs our node (or a stranger's program), a clock of
its own, and what its kernel holds; `schedule` has the time, `reach` says who can reach whom, `adverts` and `streams`
carry what is said. A daemon that dies leaves what systemd would keep of it to the next one on that host, and its
session managers alive; a device that dies leaves nothing.
"""

from collections.abc import Callable
from functools import partial
from itertools import count

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Send, Stopped
from pskkey.core.events import Direction, Event, KeyGenerated, PskChanged, Started, Timeout
from pskkey.core.node import Node
from pskkey.core.notices import Notice
from pskkey.core.settings import Settings, Timing
from pskkey.daemon.event_table import EVENT_OF, sentence
from pskkey.model import Key, Member, PskName, Role, Suite
from pskkey.secret import Secret
from tests.sim.adverts import Adverts
from tests.sim.bounds import Bounds
from tests.sim.host import Broken, Conditions, Host, Mind
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule
from tests.sim.streams import Streams


class World:
    """The hosts, what lies between them, and the time."""

    def __init__(self, seed: int, conditions: Conditions | None = None) -> None:
        self.schedule = Schedule(seed)
        self.random = self.schedule.random
        self.at = self.schedule.at
        self.conditions = conditions or Conditions()
        self.bounds = Bounds()
        """Of the timings that its nodes have."""
        self.hosts: list[Host] = []
        self.reach = Reach(self.hosts)
        shared = (self.schedule, self.hosts, self.reach, self.conditions, self.handle)
        self.adverts = Adverts(*shared)
        self.streams = Streams(*shared)
        self.transcript: list[str] = []
        self.events: list[Callable[[Host, Event], None]] = []
        """Told before a node handles an event."""
        self.actions: list[Callable[[Host, Action], None]] = []
        """Told of each action after it was performed."""
        self.after_step: list[Callable[[Host], None]] = []
        self.started: list[Callable[[Host], None]] = []
        self.ended: list[Callable[[Host], None]] = []
        """Told when the process of a host is gone; `host.off` says whether everything on it is."""
        self.disturbed: list[Callable[[Host], None]] = []
        """Told when a host is held up or its clock has jumped."""
        self.dies_before: dict[Host, int] = {}
        """Whose process dies in the middle of its next step, before the action of this number (or after all)."""
        self.make_node = Node
        """What a node is made of; a test may give another, to see that its defect is noticed."""
        self.keys: dict[str, str] = {}
        """The name of each key, K1, K2..., by its fingerprint."""
        self._numbers = count(1)

    @property
    def now(self) -> float:
        """Return the virtual time, seconds."""
        return self.schedule.now

    def run_until(self, end: float) -> None:
        """Let the time pass up to `end`."""
        self.schedule.run_until(end)

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
        stranger: Mind | None = None,
    ) -> Host:
        """Add a host; its process does not run yet."""
        number = len(self.hosts) + 1
        # Ids are scattered so that their order is not the order of creation.
        own_id = f"{(number * 2654435761) % 2**32:08x}{number:024x}"
        address = (f"10.0.{number // 250}.{number % 250 + 1}",)
        member = Member(node_id or own_id, f"n{number}", address, 11111, priority, eligible, sender_id)
        host = Host(member.name, member, timing or Timing(), max_members)
        self.hosts.append(host)
        if stranger is not None:
            self.let_in(host, stranger)
        return host

    def let_in(self, host: Host, stranger: Mind) -> None:
        """Let a program that is not ours run on a host."""
        host.stranger = stranger
        self.note(host, "is no node of ours")
        self.handle(host, Started())

    def start(self, host: Host, *, forgetful: bool = False) -> None:
        """Start the process of a host; it knows what its last one left, unless it is `forgetful` or lost its power."""
        host.incarnation += 1
        host.paused = False
        host.psks = host.psk_file
        if forgetful or host.off:
            host.saved = None
        host.off = False
        host.context += host.saved is None
        settings = Settings(
            "sim",
            host.member,
            f"{host.name}-{host.incarnation}",
            "sim",
            f"{host.name}-{host.incarnation}-",
            max_members=host.max_members,
            preempt=host.preempt,
            timing=host.timing,
            suite=host.suite,
        )
        host.node = self.make_node(settings, host.saved)
        host.saved = None
        self.note(host, "starts")
        for told in self.started:
            told(host)
        self.handle(host, Started())
        self.adverts.query(host)

    def reload(self, host: Host) -> None:
        """SIGHUP: the PSK file is read again. Sessions that others opened with a removed PSK end."""
        host.psks = host.psk_file
        if host.mind is None:
            return
        host.cache.clear()  # what is heard is verified again
        self.note(host, f"reads its PSK file again: {', '.join(host.psks)}")
        active, *_ = names = [PskName(psk) for psk in host.psks]
        self.handle(host, PskChanged(active, frozenset(names)))
        self.streams.end_removed(host)

    def crash(self, host: Host) -> None:
        """Kill the daemon: no goodbye; its kernel ends its sessions as far as the network lets it."""
        self.note(host, "dies")
        self._end(host)

    def power_off(self, host: Host) -> None:
        """Take a device off the network without a word from it; its sessions just go silent, its advert stays."""
        self.note(host, "loses its power")
        host.off = True
        self.streams.drop(host)
        self._end(host)

    def pause(self, host: Host) -> None:
        """SIGSTOP: nothing runs, the kernel goes on accepting and buffering."""
        self.note(host, "is paused")
        host.paused = True
        for told in self.disturbed:
            told(host)

    def wake(self, host: Host) -> None:
        """SIGCONT: everything that waited comes at once."""
        self.note(host, "wakes")
        host.paused = False
        backlog, host.backlog = host.backlog, []
        for event in backlog:
            self.handle(host, event)

    def leap(self, host: Host, seconds: float) -> None:
        """Let the clock of a host jump forward, as it does when a suspended machine resumes."""
        self.note(host, f"finds its clock {seconds:.0f} s ahead")
        host.clock_ahead += seconds
        for told in self.disturbed:
            told(host)
        self._arm(host)

    def _end(self, host: Host) -> None:
        if host.node is not None and not host.off:
            host.saved = host.node.saved_state()
        host.node = None
        host.stranger = None
        host.said = None
        host.paused = False
        host.backlog.clear()
        host.incarnation += 1
        host.due = host.rings_at = None
        for session in list(host.streams):
            self.streams.close(host, session, "connection reset")
        for told in self.ended:
            told(host)

    def master_of(self, host: Host) -> Host | None:
        """Return the host that a node's session with its master leads to, itself if it is master."""
        if host.node is None:
            return None
        if host.node.view().role is Role.MASTER:
            return host
        session = host.node.view().master_session
        stream = None if session is None else host.streams.get(session)
        return None if stream is None else stream.other(host)

    # --- a step of a node ---------------------------------------------------------------------------------------

    def handle(self, host: Host, event: Event) -> None:
        """Give an event to a node, now or when it wakes, and do what it asks for."""
        mind = host.mind
        if mind is None:
            return
        if host.paused:
            host.backlog.append(event)
            return
        for told in self.events:
            told(host, event)
        actions = mind.handle(event, host.clock(self.schedule.now))
        if self.dies_before and host in self.dies_before:
            actions = actions[: self.dies_before[host]]
        for action in actions:
            self._perform(host, action)
            for told_of in self.actions:
                told_of(host, action)
            if host.mind is not mind:
                if isinstance(action, Stopped) and action is not actions[-1]:
                    raise Broken("G5", f"{host.name} wants {type(actions[-1]).__name__} after it has stopped")
                return
        if self.dies_before and self.dies_before.pop(host, None) is not None:
            self.crash(host)
            return
        self._arm(host)
        for check in self.after_step:
            check(host)

    def _arm(self, host: Host) -> None:
        mind = host.mind
        deadline = None if mind is None else mind.next_deadline()
        if deadline is None:
            host.due = None
            return
        host.due = max(host.when(deadline), self.schedule.now)
        if host.rings_at is None or host.due < host.rings_at:
            host.rings_at = host.due
            self.at(host.due, partial(self._ring, host))

    def _ring(self, host: Host) -> None:
        if host.rings_at != self.schedule.now:
            return  # it was set anew
        host.rings_at = None
        if host.due is None:
            return
        if host.due > self.schedule.now:
            host.rings_at = host.due
            self.at(host.due, partial(self._ring, host))
        else:
            self.handle(host, Timeout())

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
            case Advertise(advert):
                self.adverts.say(host, advert)
            case GenerateKey(suite):
                self.at(self.now, partial(self._give_key, host, host.incarnation, suite))
            case Notice():
                self.note(host, f"{EVENT_OF[type(action)]}: {sentence(action)}")
            case Stopped():
                self.note(host, "has stopped")
                host.said = None
                self._end(host)

    def _give_key(self, host: Host, incarnation: int, suite: Suite) -> None:
        if host.incarnation == incarnation:
            self.handle(host, KeyGenerated(self.fresh_key(suite)))

    def fresh_key(self, suite: Suite = Suite.PSK_CHACHA20_POLY1305) -> Key:
        """Return a key that was never there before; its name goes into `keys`."""
        number = next(self._numbers)
        pms = b"\xfe\xfd" + number.to_bytes(46, "big") + bytes(16)
        key = Key(Secret(pms), bytes(32), number.to_bytes(32, "big"), suite)
        self.keys[key.fingerprint] = f"K{number}"
        return key

    def note(self, host: Host, text: str) -> None:
        """Write a line of the transcript."""
        self.transcript.append(f"{self.schedule.now:9.3f} {host.name:>4} {text}")
