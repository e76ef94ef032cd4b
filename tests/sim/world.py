"""A whole group in one process: real cores, real wire bytes, a seeded network and virtual time.

Nothing here knows how an election works. Sessions are streams: ordered and reliable, held up while their direction is
cut, ended at the other side when a process dies and can still be heard. Adverts are datagrams: delayed, lost, repeated
and overtaken, and, as with mDNS, noticed by a receiver only where they differ from what it has cached.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Notice, Send, Stopped
from pskkey.core.events import (
    Accepted,
    AdvertReceived,
    Connected,
    Direction,
    Disconnected,
    Event,
    KeyGenerated,
    Received,
    Session,
    Started,
    Timeout,
)
from pskkey.core.node import Node
from pskkey.core.settings import Settings, Timing
from pskkey.model import Advert, Key, Member, Message, Suite
from pskkey.secret import Secret
from pskkey.wire.packet import Door, PacketReader, Side, encode
from tests.sim.host import Conditions, Host, Stream

REFUSED = "connection refused"


class World:
    """The hosts, what lies between them, and the time."""

    def __init__(self, seed: int, conditions: Conditions | None = None) -> None:
        self.random = random.Random(seed)
        self.conditions = conditions or Conditions()
        self.now = 0.0
        self.hosts: list[Host] = []
        self.cut: set[tuple[Host, Host]] = set()
        self.transcript: list[str] = []
        self.watchers: list[Callable[[Host, Action], None]] = []
        self.after_step: list[Callable[[Host], None]] = []
        self.crash_after: dict[Host, int] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._keys = count(1)

    # --- time ---------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do `what` at virtual time `when`."""
        heapq.heappush(self._heap, (when, next(self._order), what))

    def run_until(self, end: float) -> None:
        """Let the time pass up to `end`."""
        while self._heap and self._heap[0][0] <= end:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = end

    # --- hosts --------------------------------------------------------------------------------------------------

    def add(self, *, priority: int = 100, eligible: bool = True, timing: Timing | None = None) -> Host:
        """Add a host; its process does not run yet."""
        number = len(self.hosts) + 1
        address = f"10.0.{number // 250}.{number % 250 + 1}"
        # Ids are scattered so that their order is not the order of creation.
        node_id = f"{(number * 2654435761) % 2**32:08x}{number:024x}"
        member = Member(node_id, f"n{number}", (address,), 11111, priority, eligible)
        host = Host(member.name, member, timing or Timing())
        self.hosts.append(host)
        return host

    def start(self, host: Host) -> None:
        """Start the process of a host; it knows nothing."""
        host.incarnation += 1
        host.paused = False
        host.cache.clear()
        instance = f"{host.name}-{host.incarnation}"
        host.node = Node(Settings("sim", host.member, instance, "sim", timing=host.timing))
        self.note(host, "starts")
        self.handle(host, Started())
        for other in self.hosts:  # its first mDNS query is answered by everybody who hears it
            if other is not host and other.node and other.said and self._passes(host, other):
                self._send_advert(other, host, other.said)

    def crash(self, host: Host) -> None:
        """Kill the process: no goodbye; its kernel ends its sessions as far as the network lets it."""
        self.note(host, "dies")
        host.node = None
        host.said = None
        host.backlog.clear()
        host.incarnation += 1
        for session in list(host.streams):
            self._close(host, session, "connection reset")

    def pause(self, host: Host) -> None:
        """SIGSTOP: nothing runs, the kernel goes on accepting and buffering."""
        self.note(host, "is paused")
        host.paused = True

    def wake(self, host: Host) -> None:
        """SIGCONT: everything that waited comes at once."""
        self.note(host, "wakes")
        host.paused = False
        backlog, host.backlog = host.backlog, []
        for what in backlog:
            what()

    # --- the network --------------------------------------------------------------------------------------------

    def sever(self, a: Host, b: Host) -> None:
        """Cut the way from `a` to `b` (not back)."""
        self.cut.add((a, b))

    def split(self, one: list[Host]) -> None:
        """Part the hosts in `one` from all others, both ways."""
        for a in one:
            for b in self.hosts:
                if b not in one:
                    self.cut |= {(a, b), (b, a)}

    def heal(self) -> None:
        """Mend every cut."""
        self.cut.clear()

    def _passes(self, a: Host, b: Host) -> bool:
        return (a, b) not in self.cut

    def _delay(self) -> float:
        return self.random.uniform(*self.conditions.delay)

    # --- a step of a node ---------------------------------------------------------------------------------------

    def handle(self, host: Host, event: Event) -> None:
        """Give an event to a node, now or when it wakes, and do what it asks for."""
        if host.node is None:
            return
        if host.paused:
            host.backlog.append(lambda: self.handle(host, event))
            return
        actions = host.node.handle(event, self.now)
        for number, action in enumerate(actions):
            if self.crash_after.get(host) == number:
                del self.crash_after[host]
                self.crash(host)
                return
            self._perform(host, action)
            if host.node is None:
                return
            for watch in self.watchers:
                watch(host, action)
        for check in self.after_step:
            check(host)
        self._arm(host)

    def _arm(self, host: Host) -> None:
        assert host.node is not None
        deadline = host.node.next_deadline()
        host.timer = deadline
        if deadline is None:
            return
        incarnation = host.incarnation

        def ring() -> None:
            if host.incarnation == incarnation and host.timer == deadline:
                self.handle(host, Timeout())

        self.at(max(deadline, self.now), ring)

    def _perform(self, host: Host, action: Action) -> None:
        match action:
            case Connect():
                self._connect(host, action)
            case Send(session, message):
                self._send(host, session, message)
            case Disconnect(session, error):
                if error is not None:
                    self._send(host, session, error)
                self._close(host, session, "connection closed")
            case Advertise(role, term, members):
                m = host.member
                host.said = Advert(
                    "sim", m.id, m.name, m.priority, m.eligible, role, term, members, m.addresses, m.port
                )
                for other in self.hosts:
                    if other is not host:
                        self._send_advert(host, other, host.said)
            case GenerateKey():
                self.at(self.now, lambda: self.handle(host, KeyGenerated(self._fresh_key())))
            case Notice(kind, text):
                self.note(host, f"{kind}: {text}")
            case Stopped():
                self.crash(host)

    def note(self, host: Host, text: str) -> None:
        """Write a line of the transcript."""
        self.transcript.append(f"{self.now:9.3f} {host.name:>4} {text}")

    def _fresh_key(self) -> Key:
        number = next(self._keys)
        pms = b"\xfe\xfd" + number.to_bytes(46, "big") + bytes(16)
        return Key(Secret(pms), bytes(32), number.to_bytes(32, "big"), Suite.PSK_CHACHA20_POLY1305)

    # --- adverts ------------------------------------------------------------------------------------------------

    def _send_advert(self, sender: Host, receiver: Host, advert: Advert) -> None:
        conditions = self.conditions
        times = 2 if self.random.random() < conditions.advert_twice else 1
        for _ in range(times):
            if self._passes(sender, receiver) and self.random.random() >= conditions.advert_loss:
                self.at(self.now + self._delay(), lambda: self._advert_arrives(receiver, advert))

    def _advert_arrives(self, host: Host, advert: Advert) -> None:
        if host.node is not None and host.cache.get(advert.id) != advert:
            host.cache[advert.id] = advert
            self.handle(host, AdvertReceived(advert))

    # --- sessions -----------------------------------------------------------------------------------------------

    def _connect(self, host: Host, action: Connect) -> None:
        target = next(h for h in self.hosts if h.member.addresses == action.addresses)
        incarnation = host.incarnation
        gives_up = self.now + action.timeout
        session = action.session

        def fail(reason: str) -> None:
            if host.incarnation == incarnation:
                self.handle(host, Disconnected(session, reason))

        def attempt() -> None:
            if host.incarnation != incarnation:
                return
            if self._passes(host, target) and self._passes(target, host):
                if target.node is None:
                    self.at(self.now + self._delay(), lambda: fail(REFUSED))
                    return
                if not target.paused:
                    self._open(host, session, target)
                    return
            if self.now + 0.1 >= gives_up:
                self.at(gives_up, lambda: fail("no answer"))
            else:
                self.at(self.now + 0.1, attempt)

        # TCP and TLS take two round trips before the server knows of a session.
        self.at(self.now + sum(self._delay() for _ in range(4)), attempt)

    def _open(self, host: Host, session: Session, target: Host) -> None:
        if host.node is None:
            return
        inbound = Session(Direction.INBOUND, next(target.accepted))
        stream = Stream(
            {host: session, target: inbound},
            {host: PacketReader(Door.TLS, Side.CLIENT), target: PacketReader(Door.TLS, Side.SERVER)},
            {host: deque(), target: deque()},
            {host: self.now, target: self.now},
        )
        host.streams[session] = stream
        target.streams[inbound] = stream
        self.handle(target, Accepted(inbound, host.member.addresses[0]))
        self._deliver(stream, host, lambda: self.handle(host, Connected(session)))

    def _send(self, host: Host, session: Session, message: Message) -> None:
        stream = host.streams.get(session)
        if stream is None or not stream.open:
            return
        data = encode(message)
        receiver = stream.other(host)

        def arrive() -> None:
            if receiver.node is None or stream.ends[receiver] not in receiver.streams:
                return
            for received in stream.readers[receiver].receive_untrusted(data):
                self.handle(receiver, Received(stream.ends[receiver], received))

        self._deliver(stream, receiver, arrive)

    def _close(self, host: Host, session: Session, reason: str) -> None:
        stream = host.streams.pop(session, None)
        if stream is None or not stream.open:
            return
        stream.open = False
        receiver = stream.other(host)

        def arrive() -> None:
            if receiver.streams.pop(stream.ends[receiver], None) is not None:
                self.handle(receiver, Disconnected(stream.ends[receiver], reason))

        self._deliver(stream, receiver, arrive)

    def _deliver(self, stream: Stream, receiver: Host, what: Callable[[], None]) -> None:
        sender = stream.other(receiver)
        when = max(self.now + self._delay(), stream.clear_at[receiver] + 1e-6)
        stream.clear_at[receiver] = when
        incarnation = receiver.incarnation
        coming = stream.coming[receiver]
        coming.append(what)

        def arrive() -> None:
            if receiver.incarnation != incarnation:
                return
            if not self._passes(sender, receiver):
                self.at(self.now + 0.2, arrive)  # TCP sends it again
                return
            coming.popleft()()

        self.at(when, arrive)
