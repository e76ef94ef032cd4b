"""TCP with TLS-PSK as the nodes see it: ordered and reliable, and delayed while the way is cut.

A handshake succeeds if the server accepts the PSK that was the client's active one when it began.

When a process dies, its kernel ends its streams at the other side, if the way is not cut. When a device loses its
power, it sends nothing any more. The streams carry the real encoding.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pskkey.core.actions import STAGGER, Connect
from pskkey.core.events import Accepted, Connected, Direction, Disconnected, Event, OtherNodeAnswered, Received, Session
from pskkey.errors import BadPacket
from pskkey.model import ErrorMessage, Group, GroupChange, Heartbeat, KeyState, Message, PskName
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.sim.host import Conditions, Host, Stream
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule

REFUSED = "connection refused"
UNKNOWN_PSK = "it does not know our PSK"
WRONG_NODE = "another node answers at this address"
REMOVED = ErrorMessage("psk_removed", "the pre-shared key of this session is not accepted any more")
RETRY_CONNECT = 0.1
"""Seconds after which a SYN without an answer is sent again."""
RETRANSMIT = 0.2
"""Seconds after which a packet that was not acknowledged is sent again."""
HEARTBEAT = encode(Heartbeat())
_CODES = {REFUSED: "refused", UNKNOWN_PSK: "handshake", WRONG_NODE: "wrong_node"}


@dataclass(eq=False)
class _Dial:
    """An attempt of a host to connect. `waiting`: the addresses that it has not tried yet."""

    host: Host
    incarnation: int
    action: Connect
    waiting: list[str]
    gives_up: float
    psk: str
    """The PSK that was active when it began."""
    refused: int = 0
    is_open: bool = False
    has_failed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has succeeded or failed, or its process is gone."""
        return self.is_open or self.has_failed or self.host.incarnation != self.incarnation


class Streams:
    """All streams between hosts."""

    def __init__(
        self,
        schedule: Schedule,
        hosts: list[Host],
        reach: Reach,
        conditions: Conditions,
        give: Callable[[Host, Event], None],
    ) -> None:
        self._schedule = schedule
        self._hosts = hosts
        self._reach = reach
        self._conditions = conditions
        self._give = give
        # A GROUP goes to all members in turn: it is encoded and decoded once, as the key server encodes it once.
        self._group: tuple[Group | GroupChange | None, bytes, list[Message]] = (None, b"", [])
        self.sent: Callable[[Host, bytes], bytes] = lambda _, data: data
        """Returns the bytes that a host of another version sends in place of those of our version."""
        self.breaks_before_keys: set[Host] = set()
        """The hosts whose connection breaks at their next KEY_STATE, which is lost."""
        self.addresses_of_strangers: set[str] = set()
        """The addresses at which nodes of another group answer, which have our PSK."""

    # --- calls of a host ----------------------------------------------------------------------------------------

    def connect(self, host: Host, action: Connect) -> None:
        """Try the addresses one after the other, each beside the former attempts, until one answers."""
        gives_up = self._schedule.now + action.timeout
        dial = _Dial(host, host.incarnation, action, list(action.addresses), gives_up, host.psks[0])
        if action.addresses:
            self._try_next(dial)
        else:
            self._schedule.at(self._schedule.now, partial(self._failed, dial, "the peer has no address"))

    def _try_next(self, dial: _Dial) -> None:
        if dial.is_over or not dial.waiting:
            return
        address = dial.waiting.pop(0)
        # TCP and TLS take two round trips before the server knows of a session.
        self._schedule.at(self._schedule.now + sum(self._delay() for _ in range(4)), partial(self._try, dial, address))
        if dial.waiting:
            self._schedule.at(self._schedule.now + STAGGER, partial(self._try_staggered, dial, len(dial.waiting)))

    def _try_staggered(self, dial: _Dial, waiting: int) -> None:
        if len(dial.waiting) == waiting:  # else an attempt failed, and the next one began at once
            self._try_next(dial)

    def _try(self, dial: _Dial, address: str) -> None:
        if dial.is_over:
            return
        host, now = dial.host, self._schedule.now
        if address in self.addresses_of_strangers:
            self._schedule.at(now + self._delay(), partial(self._other_node_answers, dial, address))
            return
        target = self._find_target(host, address)
        if target is not None and self._reach.connects(host, target):
            if target.program is None and not target.is_off:
                self._schedule.at(now + self._delay(), partial(self._refused, dial, REFUSED))
                return
            answers = target.is_responsive and self._reach.shakes_hands(host, target)
            if answers and dial.psk not in target.psks:
                self._schedule.at(now + self._delay(), partial(self._refused, dial, UNKNOWN_PSK))
                return
            if answers and target.member.id != dial.action.peer:
                self._schedule.at(now + self._delay(), partial(self._other_node_answers, dial, address))
                return
            if answers:
                dial.is_open = True
                self._open(host, dial.action.session, target, dial.psk, address)
                return
        if now + RETRY_CONNECT >= dial.gives_up:
            is_tcp_open = target is not None and not target.is_off and self._reach.connects(host, target)
            code = "no_handshake" if is_tcp_open else "timeout"
            self._schedule.at(dial.gives_up, partial(self._failed, dial, "no answer", code))
        else:
            self._schedule.at(now + RETRY_CONNECT, partial(self._try, dial, address))

    def _find_target(self, host: Host, address: str) -> Host | None:
        """Return the host that an address leads to from `host`; None: it leads nowhere.

        Several hosts may have an address, each in a network of its own. Then the address leads to the host itself if it
        has it, else to the host that follows it.
        """
        owners = [h for h in self._hosts if h.is_reached_at(address)]
        if not owners:
            return None
        place = self._hosts.index(host)
        return min(owners, key=lambda owner: (self._hosts.index(owner) - place) % len(self._hosts))

    def _other_node_answers(self, dial: _Dial, address: str) -> None:
        if not dial.is_over:
            self._give(dial.host, OtherNodeAnswered(dial.action.peer, address))
            self._refused(dial, WRONG_NODE)

    def _refused(self, dial: _Dial, reason: str) -> None:
        dial.refused += 1
        if dial.refused == len(dial.action.addresses):
            self._failed(dial, reason, _CODES[reason])
        else:
            self._try_next(dial)

    def _failed(self, dial: _Dial, reason: str, code: str = "timeout") -> None:
        if not dial.is_over:
            dial.has_failed = True
            self._give(dial.host, Disconnected(dial.action.session, reason, code))

    def send(self, host: Host, session: Session, message: Message) -> None:
        """Send on a stream, if it is still open."""
        stream = host.streams.get(session)
        if stream is None or not stream.is_open:
            return
        if host in self.breaks_before_keys and isinstance(message, KeyState):
            self.breaks_before_keys.discard(host)
            self.close(host, session, "connection reset")
            self._schedule.at(
                self._schedule.now, partial(self._give, host, Disconnected(session, "connection reset by peer"))
            )
            return
        receiver = stream.other(host)
        if isinstance(message, Heartbeat):
            data = HEARTBEAT
        elif isinstance(message, Group | GroupChange):
            data = self._encoded_group(message)
        else:
            data = encode(message)
        data = self.sent(host, data)
        self._deliver(stream, receiver, partial(self._receive, stream, receiver, data), len(data))

    def close(self, host: Host, session: Session, reason: str) -> None:
        """End a stream. The other side notices this after all packets that were sent before."""
        stream = host.streams.pop(session, None)
        if stream is None or not stream.is_open:
            return
        stream.is_open = False
        receiver = stream.other(host)
        self._deliver(stream, receiver, partial(self._notice_end, stream, receiver, reason))

    def end_removed(self, host: Host) -> None:
        """End the sessions that peers have opened with a PSK that a host does not accept any more."""
        for session, stream in list(host.streams.items()):
            if session.direction is Direction.INBOUND and stream.psk not in host.psks:
                self.send(host, session, REMOVED)
                self.close(host, session, "connection closed")
                self._give(host, Disconnected(session, "its PSK was removed"))

    def drop_all(self, host: Host) -> None:
        """End every stream of a host at this side. The other side is not notified."""
        for session, stream in list(host.streams.items()):
            stream.is_open = False
            del host.streams[session]

    # --- deliveries ---------------------------------------------------------------------------------------------

    def _open(self, host: Host, session: Session, target: Host, psk: str, address: str) -> None:
        inbound = Session(Direction.INBOUND, next(target.accepted))
        now = self._schedule.now
        stream = Stream(
            {host: session, target: inbound},
            {host: PacketReader(Channel.TLS, Side.CLIENT), target: PacketReader(Channel.TLS, Side.SERVER)},
            {host: deque(), target: deque()},
            {host: now, target: now},
            psk,
        )
        host.streams[session] = stream
        target.streams[inbound] = stream
        self._give(target, Accepted(inbound, host.member.addresses[0]))
        self._deliver(stream, host, partial(self._connected, stream, host, address))

    def _connected(self, stream: Stream, host: Host, address: str) -> None:
        if stream.ends[host] in host.streams:
            self._give(host, Connected(stream.ends[host], PskName(stream.psk), address))

    def _encoded_group(self, message: Group | GroupChange) -> bytes:
        if self._group[0] is not message:
            data = encode(message)
            self._group = (message, data, PacketReader(Channel.TLS, Side.CLIENT).receive_untrusted(data))
        return self._group[1]

    def _receive(self, stream: Stream, receiver: Host, data: bytes) -> None:
        session = stream.ends[receiver]
        if receiver.program is None or session not in receiver.streams:
            return
        if data is self._group[1]:
            messages = self._group[2]
        else:
            try:
                messages = stream.readers[receiver].receive_untrusted(data)
            except BadPacket as error:
                self.close(receiver, session, "bad packet")
                self._give(receiver, Disconnected(session, str(error)))
                return
        for message in messages:
            self._give(receiver, Received(session, message))

    def _notice_end(self, stream: Stream, receiver: Host, reason: str) -> None:
        if receiver.streams.pop(stream.ends[receiver], None) is not None:
            self._give(receiver, Disconnected(stream.ends[receiver], reason))

    def _deliver(self, stream: Stream, receiver: Host, what: Callable[[], None], size: int = 0) -> None:
        schedule = self._schedule
        when = max(schedule.now + self._delay(), stream.clear_at[receiver] + 1e-6)
        stream.clear_at[receiver] = when
        stream.coming[receiver].append((size, what))
        schedule.at(when, partial(self._deliver_due, stream, receiver, receiver.incarnation))

    def _deliver_due(self, stream: Stream, receiver: Host, incarnation: int) -> None:
        if receiver.incarnation != incarnation:
            return
        size, deliver = stream.coming[receiver][0]
        if not self._reach.carries(stream.other(receiver), receiver, size):
            again = partial(self._deliver_due, stream, receiver, incarnation)
            self._schedule.at(self._schedule.now + RETRANSMIT, again)
            return
        stream.coming[receiver].popleft()
        deliver()

    def _delay(self) -> float:
        return self._schedule.random.uniform(*self._conditions.delay)
