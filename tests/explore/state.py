"""The state of a group of three as one immutable value, and what lies between the devices.

A session is TCP: two queues, in order and without loss, until it ends. What one end closes, the other hears of after
all that was sent before; a session that breaks loses what is on its way, and each end hears of it by itself. mDNS has
for each pair the adverts that are on their way, KEPT_ADVERTS at most: an older one is lost.
"""

from typing import Final, NamedTuple

from pskkey.core.events import Direction, Session
from tests.explore.device import Device

DEVICES: Final = 3

KEPT_ADVERTS: Final = 2
"""Adverts of one device that are on their way to another at most. The later one may overtake."""

PAIRS: Final = tuple((a, b) for a in range(DEVICES) for b in range(DEVICES) if a != b)

type Local = int | Device
"""The state of a device: a number in the table of all that were met, or, outside the search, the device itself."""

ENDED: Final = b""
"""In a queue: the session is over."""


class Place(NamedTuple):
    """A device, and the microseconds since its last step."""

    local: Local
    age: int


class Stream(NamedTuple):
    """A session, or the attempt to open one. `number` is the client's, `incarnation` of its process."""

    client: int
    incarnation: int
    number: int
    server: int
    expires: int | None
    """While it is an attempt: the microseconds that it has left."""
    to_server: tuple[bytes, ...] = ()
    to_client: tuple[bytes, ...] = ()
    client_is_open: bool = True
    server_is_open: bool = False
    is_broken: bool = False
    """Nothing that is sent arrives any more."""

    @property
    def key(self) -> tuple[int, int, int]:
        """The name of the session."""
        return self[:3]

    @property
    def inbound(self) -> int:
        """The number of the session at its server: the same in whatever order the clients come."""
        return (self.client * 1000 + self.incarnation) * 1000 + self.number


class Air(NamedTuple):
    """What one device hears of another by mDNS: the advert that it heard last, and those on their way, by number."""

    heard: int | None = None
    coming: tuple[int, ...] = ()


class Allowed(NamedTuple):
    """How often something may still happen."""

    breaks: int = 0
    crashes: int = 0
    power_losses: int = 0
    repeats: int = 0
    """Adverts that arrive twice."""
    rekeys: int = 0
    switchovers: int = 0


class State(NamedTuple):
    """All of it."""

    places: tuple[Place, ...]
    streams: tuple[Stream, ...] = ()
    airs: tuple[Air, ...] = (Air(),) * len(PAIRS)
    said: tuple[int | None, ...] = (None,) * DEVICES
    """What each daemon that runs has announced last."""
    allowed: Allowed = Allowed()
    grants: frozenset[tuple[str, int, int]] = frozenset()
    """Every key and sender id that a session manager was told to send with, and its sequence context."""


def stream_of(state: State, key: tuple[int, ...]) -> Stream:
    """Return the session with this name."""
    return next(stream for stream in state.streams if stream.key == key)


def spend(state: State, what: str) -> State:
    """Return a state in which something may happen once less."""
    return state._replace(allowed=state.allowed._replace(**{what: getattr(state.allowed, what) - 1}))


def with_air(state: State, pair: int, air: Air) -> State:
    """Return a state with other adverts between a pair."""
    return state._replace(airs=(*state.airs[:pair], air, *state.airs[pair + 1 :]))


def with_stream(state: State, old: Stream, new: Stream | None) -> State:
    """Put a session in the place of another, or of none; one that is closed at both ends is gone."""
    is_gone = new is None or not (new.client_is_open or new.server_is_open)
    streams = (new if s is old else s for s in state.streams if s is not old or not is_gone)
    return state._replace(streams=tuple(s for s in streams if s is not None))


def find_stream(state: State, number: int, session: Session) -> Stream | None:
    """Return the session that a device names, if its end is still open."""
    for stream in state.streams:
        if session.direction is Direction.OUTBOUND:
            if stream.client == number and stream.number == session.number and stream.client_is_open:
                return stream
        elif stream.server == number and stream.inbound == session.number and stream.server_is_open:
            return stream
    return None


def sent(stream: Stream, sender: int, data: bytes) -> Stream:
    """Return a session with one packet more on its way, if it has anywhere to go."""
    if stream.is_broken:
        return stream
    if sender == stream.client:
        return stream._replace(to_server=(*stream.to_server, data)) if stream.server_is_open else stream
    return stream._replace(to_client=(*stream.to_client, data)) if stream.client_is_open else stream


def closed(stream: Stream, *, at_client: bool) -> Stream:
    """Close one end; the other hears of it after all that was sent before."""
    after = sent(stream, stream.client if at_client else stream.server, ENDED)
    if at_client:
        return after._replace(client_is_open=False, to_client=())
    return after._replace(server_is_open=False, to_server=())


def without_power(stream: Stream, number: int) -> Stream:
    """Let one end be gone without a word, and what it has sent with it."""
    if stream.client == number:
        return stream._replace(
            client_is_open=False, to_client=(), to_server=_if_ended(stream.to_server), is_broken=True
        )
    return stream._replace(server_is_open=False, to_server=(), to_client=_if_ended(stream.to_client), is_broken=True)


def _if_ended(queue: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """A session that broke before is noticed all the same."""
    return (ENDED,) if queue == (ENDED,) else ()
