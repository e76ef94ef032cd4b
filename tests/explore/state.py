"""The state of a group of three as one immutable value, with the network between the devices.

A session is TCP: two queues, in order and without loss, until it ends. When one end closes the session, the other end
notices this after all packets that were sent before. A session that breaks loses all packets on their way, and each end
notices this by itself. mDNS has for each pair the adverts that are on their way, KEPT_ADVERTS at most: an older one is
lost.
"""

from typing import Final, NamedTuple

from pskkey.core.events import Direction, Session
from tests.explore.device import Device

DEVICES: Final = 3

KEPT_ADVERTS: Final = 2
"""The most adverts on their way from one device to another. The later one may overtake."""

PAIRS: Final = tuple((a, b) for a in range(DEVICES) for b in range(DEVICES) if a != b)

type Local = int | Device
"""The state of a device: its number in the table of all states, or, outside the search, the device itself."""

ENDED: Final = b""
"""The end of the session, in a queue."""


class Place(NamedTuple):
    """A device, and the microseconds since its last step."""

    local: Local
    age: int


class Stream(NamedTuple):
    """A session, or the attempt to open one. `number`: the client's; `incarnation`: of the client's daemon."""

    client: int
    incarnation: int
    number: int
    server: int
    expires: int | None
    """The microseconds until the attempt fails; None: it is no attempt any more."""
    to_server: tuple[bytes, ...] = ()
    to_client: tuple[bytes, ...] = ()
    client_is_open: bool = True
    server_is_open: bool = False
    is_broken: bool = False
    """No packet that is sent from now on arrives."""

    @property
    def key(self) -> tuple[int, int, int]:
        """The name of the session."""
        return self[:3]

    @property
    def inbound(self) -> int:
        """The number of the session at its server, which does not depend on the order of the clients."""
        return (self.client * 1000 + self.incarnation) * 1000 + self.number


class Air(NamedTuple):
    """mDNS from one device to another: the advert that arrived last, and those on their way, by number."""

    heard: int | None = None
    coming: tuple[int, ...] = ()


class Allowed(NamedTuple):
    """How often each fault and each request may still happen."""

    breaks: int = 0
    crashes: int = 0
    power_losses: int = 0
    repeats: int = 0
    """Adverts that arrive twice."""
    rekeys: int = 0
    switchovers: int = 0


class State(NamedTuple):
    """The state of the group."""

    places: tuple[Place, ...]
    streams: tuple[Stream, ...] = ()
    airs: tuple[Air, ...] = (Air(),) * len(PAIRS)
    announced: tuple[int | None, ...] = (None,) * DEVICES
    """The last advert of each running daemon."""
    allowed: Allowed = Allowed()
    uses: frozenset[tuple[str, int, int]] = frozenset()
    """Every use of a sender id: the key, the id, and the sequence context of the session manager."""


def stream_of(state: State, key: tuple[int, ...]) -> Stream:
    """Return the session with this name."""
    return next(stream for stream in state.streams if stream.key == key)


def spend(state: State, what: str) -> State:
    """Return a state in which `what` may happen once less."""
    return state._replace(allowed=state.allowed._replace(**{what: getattr(state.allowed, what) - 1}))


def with_air(state: State, pair: int, air: Air) -> State:
    """Return a state with other adverts between a pair."""
    return state._replace(airs=(*state.airs[:pair], air, *state.airs[pair + 1 :]))


def with_stream(state: State, old: Stream, new: Stream | None) -> State:
    """Return a state with session `new` instead of `old`. A session that is None or closed at both ends is removed."""
    is_gone = new is None or not (new.client_is_open or new.server_is_open)
    streams = (new if s is old else s for s in state.streams if s is not old or not is_gone)
    return state._replace(streams=tuple(s for s in streams if s is not None))


def find_stream(state: State, number: int, session: Session) -> Stream | None:
    """Return the session with this name at a device, if that end is still open."""
    for stream in state.streams:
        if session.direction is Direction.OUTBOUND:
            if stream.client == number and stream.number == session.number and stream.client_is_open:
                return stream
        elif stream.server == number and stream.inbound == session.number and stream.server_is_open:
            return stream
    return None


def with_packet(stream: Stream, sender: int, data: bytes) -> Stream:
    """Return a session with one more packet on its way, if the receiving end is open."""
    if stream.is_broken:
        return stream
    if sender == stream.client:
        return stream._replace(to_server=(*stream.to_server, data)) if stream.server_is_open else stream
    return stream._replace(to_client=(*stream.to_client, data)) if stream.client_is_open else stream


def with_end_closed(stream: Stream, *, at_client: bool) -> Stream:
    """Return a session with one end closed. The other end notices this after all packets that were sent before."""
    after = with_packet(stream, stream.client if at_client else stream.server, ENDED)
    if at_client:
        return after._replace(client_is_open=False, to_client=())
    return after._replace(server_is_open=False, to_server=())


def without_power(stream: Stream, number: int) -> Stream:
    """Return a session whose one end has lost its power. The packets that it has sent are lost."""
    if stream.client == number:
        return stream._replace(
            client_is_open=False, to_client=(), to_server=_if_ended(stream.to_server), is_broken=True
        )
    return stream._replace(server_is_open=False, to_server=(), to_client=_if_ended(stream.to_client), is_broken=True)


def _if_ended(queue: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the queue of an end that must still notice an earlier break."""
    return (ENDED,) if queue == (ENDED,) else ()
