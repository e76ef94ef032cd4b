"""TCP with TLS-PSK as the nodes see it: ordered and reliable, and delayed while the way is cut. `dials` opens it.

A host may have any number of streams, with any hosts, in both directions.
When a process dies, its kernel ends its streams at the other side, if the way is not cut. When a device loses its
power, it sends nothing any more. The streams carry the real encoding.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from pskkey.core.actions import Connect
from pskkey.core.events import Accepted, Connected, Direction, Disconnected, Event, Received, Session
from pskkey.errors import BadPacket
from pskkey.model import ErrorMessage, Group, GroupChange, Heartbeat, KeyState, Message, PskName
from pskkey.wire.frame import HEADER_SIZE
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.sim.dials import Dial, Dials
from tests.sim.host import Conditions, Host, Stream
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule

REMOVED = ErrorMessage("psk_removed", "the pre-shared key of this session is not accepted any more")
RETRANSMIT = 0.2
"""Seconds after which a packet that was not acknowledged is sent again."""
HEARTBEAT = encode(Heartbeat())


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
        self.dials = Dials(schedule, hosts, reach, conditions, give, self._open, self.addresses_of_strangers)

    # --- calls of a host ----------------------------------------------------------------------------------------

    def connect(self, host: Host, action: Connect) -> None:
        """Begin to open a session."""
        self.dials.begin(host, action)

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
        self._deliver(stream, receiver, partial(self._receive, stream, receiver, data), data)

    def close(self, host: Host, session: Session, reason: str) -> None:
        """End a stream. The other side notices this after all packets that were sent before."""
        stream = host.streams.pop(session, None)
        if stream is None:
            self.dials.cancel(host, session)
            return
        if not stream.is_open:
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

    def _open(self, dial: Dial, target: Host, address: str) -> None:
        host, session = dial.host, dial.action.session
        inbound = Session(Direction.INBOUND, next(target.accepted))
        now = self._schedule.now
        stream = Stream(
            {host: session, target: inbound},
            {host: PacketReader(Channel.TLS, Side.CLIENT), target: PacketReader(Channel.TLS, Side.SERVER)},
            {host: deque(), target: deque()},
            {host: now, target: now},
            dial.psk,
        )
        host.streams[session] = stream
        target.streams[inbound] = stream
        if host.processor is None or target.processor is None:
            self._accept(stream, target, host)
            self._deliver(stream, host, partial(self._connected, stream, host, address))
        else:  # the client has the session before the server has its last packet of the handshake
            self._deliver(stream, target, partial(self._accept, stream, target, host))
            self._connected(stream, host, address)

    def _accept(self, stream: Stream, target: Host, client: Host) -> None:
        if stream.ends[target] in target.streams:
            self._give(target, Accepted(stream.ends[target], client.member.addresses[0]))

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

    def _deliver(self, stream: Stream, receiver: Host, what: Callable[[], None], data: bytes = b"") -> None:
        schedule = self._schedule
        leaves_at = schedule.now
        if receiver.processor is not None:
            frames = count_frames(data)
            if (sender := stream.other(receiver).processor) is not None and frames:
                leaves_at = sender.spend(sender.costs.of_message(len(data), frames))
            what = partial(receiver.processor.receive, what, len(data), frames)
        when = max(leaves_at + self._delay(), stream.clear_at[receiver] + 1e-6)
        stream.clear_at[receiver] = when
        stream.coming[receiver].append((len(data), what))
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


def count_frames(data: bytes) -> int:
    """Return the number of frames in the bytes of a message."""
    frames = at = 0
    while at < len(data):
        at += HEADER_SIZE + int.from_bytes(data[at + 2 : at + 4])
        frames += 1
    return frames
