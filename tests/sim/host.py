"""What the simulated network consists of: devices with their clocks, and the streams between their processes."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from pskkey.core.actions import Action
from pskkey.core.events import Event, Session
from pskkey.core.node import Node
from pskkey.core.settings import Timing
from pskkey.model import Advert, Member, SavedState, Suite
from pskkey.wire.packet import PacketReader


class Broken(AssertionError):
    """A guarantee does not hold: its number in ARCHITECTURE.md ("G7"), and what was seen of which host."""

    def __init__(self, guarantee: str, seen: str) -> None:
        super().__init__(f"{guarantee}: {seen}")


@dataclass
class Conditions:
    """How the network behaves: delays in seconds, and of adverts the probabilities of each mishap.

    `advert_late`: held up for up to half a second, so that later ones overtake it.
    """

    delay: tuple[float, float] = (0.0005, 0.01)
    advert_loss: float = 0.0
    advert_twice: float = 0.0
    advert_late: float = 0.0


@dataclass(eq=False)
class Stream:
    """One session between two processes: its name, its decoder and what is on its way, at each end."""

    ends: dict["Host", Session]
    readers: dict["Host", PacketReader]
    coming: dict["Host", deque[Callable[[], None]]]
    clear_at: dict["Host", float]
    psk: str
    """The PSK that it was opened with."""
    open: bool = True

    def other(self, host: "Host") -> "Host":
        """Return who is at the other end."""
        return next(h for h in self.ends if h is not host)


class Mind(Protocol):
    """What runs on a host: a node of ours, or a program that only pretends to be one."""

    def handle(self, event: Event, now: float) -> list[Action]: ...
    def next_deadline(self) -> float | None: ...


@dataclass(eq=False)
class Host:
    """A device: its node while its process runs, its clock, and what its mDNS cache and its sockets hold.

    `node` is our daemon; a host that runs something else has a `stranger` instead, and no node ever.
    """

    name: str
    member: Member
    timing: Timing
    max_members: int = 1024
    preempt: bool = False
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    """The suite that its operator wants."""
    unreachable: set[str] = field(default_factory=set)
    """Of its addresses: those at which nobody reaches it."""
    node: Node | None = None
    stranger: Mind | None = None
    saved: SavedState | None = None
    incarnation: int = 0
    context: int = 0
    """Counts the times that it started with nothing that it knew before."""
    paused: bool = False
    off: bool = False
    """It has no power: nothing answers, not even its kernel."""
    backlog: list[Event] = field(default_factory=list)
    psk_file: tuple[str, ...] = ("psk0",)
    """The PSKs in its file, by name; the first one is the active one, all are accepted."""
    psks: tuple[str, ...] = ("psk0",)
    """Those that its process has read."""
    cache: dict[str, Advert] = field(default_factory=dict)
    said: Advert | None = None
    streams: dict[Session, Stream] = field(default_factory=dict)
    accepted: Iterator[int] = field(default_factory=lambda: count(1))
    due: float | None = None
    """When the node wants to be called, in virtual time."""
    rings_at: float | None = None
    """When the timer that is set will ring, in virtual time; it is set anew only for an earlier time."""
    clock_ahead: float = 0.0
    """Seconds by which its clock is ahead of virtual time, at time 0."""
    clock_rate: float = 1.0
    """Seconds that its clock goes in a second."""

    @property
    def mind(self) -> Mind | None:
        """What runs on it, None while nothing does."""
        return self.node or self.stranger

    @property
    def lives(self) -> bool:
        """Tell whether something runs on it and is not held up."""
        return (self.node is not None or self.stranger is not None) and not self.paused

    def is_reached_at(self, address: str) -> bool:
        """Tell whether what is sent to `address` comes to this host, where the network lets it."""
        return address in self.member.addresses and address not in self.unreachable

    def clock(self, now: float) -> float:
        """Return what its clock shows at virtual time `now`."""
        return now * self.clock_rate + self.clock_ahead

    def when(self, shown: float) -> float:
        """Return the virtual time at which its clock shows `shown`, rounded up."""
        return (shown - self.clock_ahead) / self.clock_rate + 1e-7
