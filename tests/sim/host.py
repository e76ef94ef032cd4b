"""The parts of the simulated network: devices with their clocks, and the streams between their processes."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from pskkey.core.actions import Action
from pskkey.core.events import AddressesChanged, Event, Session
from pskkey.core.node import Node
from pskkey.core.settings import Timing
from pskkey.model import Advert, Member, SavedState, Suite
from pskkey.wire.packet import PacketReader
from tests.sim.processor import Processor


class Broken(AssertionError):
    """A guarantee does not hold. `guarantee`: its number in ARCHITECTURE.md ("G7"); `seen`: the host and the fact."""

    def __init__(self, guarantee: str, seen: str) -> None:
        super().__init__(f"{guarantee}: {seen}")


@dataclass
class Conditions:
    """The behaviour of the network: the delay in seconds, and the probability of each mishap of an advert.

    `advert_late`: the advert is delayed for up to half a second, so that later ones overtake it.
    """

    delay: tuple[float, float] = (0.0005, 0.01)
    advert_loss: float = 0.0
    advert_twice: float = 0.0
    advert_late: float = 0.0


@dataclass(eq=False)
class Stream:
    """One session between two processes: for each end its name, its decoder and the packets on their way."""

    ends: dict["Host", Session]
    readers: dict["Host", PacketReader]
    coming: dict["Host", deque[tuple[int, Callable[[], None]]]]
    """By receiver, the messages on their way: the size in bytes, and the call that delivers it."""
    clear_at: dict["Host", float]
    psk: str
    """The PSK with which it was opened."""
    is_open: bool = True

    def other(self, host: "Host") -> "Host":
        """Return the host at the other end."""
        return next(h for h in self.ends if h is not host)


class Program(Protocol):
    """The program of a host: our node, or a program that only pretends to be one."""

    def handle(self, event: Event, now: float) -> list[Action]: ...
    def next_deadline(self) -> float | None: ...


@dataclass(eq=False)
class Host:
    """A device: its program, its clock, its mDNS cache and its sockets.

    `node` is our daemon while it runs. A host with another program has a `stranger` instead, and never a node.
    """

    name: str
    member: Member
    timing: Timing
    max_members: int = 1024
    preempt: bool = False
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    """The configured suite."""
    unreachable: set[str] = field(default_factory=set)
    """Those of its addresses at which no other host reaches it."""
    left_out: str = ""
    """An address that it has and does not announce. Its packets come from there."""
    prefixes: tuple[str, ...] = ()
    """Its networks."""
    node: Node | None = None
    stranger: Program | None = None
    saved: SavedState | None = None
    incarnation: int = 0
    fresh_starts: int = 0
    """How often its daemon has started without persisted state."""
    is_paused: bool = False
    is_off: bool = False
    """It has no power: not even its kernel answers."""
    backlog: list[Event] = field(default_factory=list)
    psk_file: tuple[str, ...] = ("psk0",)
    """The names of the PSKs in its file. All are accepted, and the first one is the active one."""
    psks: tuple[str, ...] = ("psk0",)
    """The PSKs that its process has read from the file."""
    processor: Processor | None = None
    """Its processor; None: its work costs no time."""
    timeout_waits: bool = False
    """Whether its timer has expired, and its processor has other work first."""
    read_until: float = 0.0
    """With a processor: all that had arrived before this virtual time was handled."""
    is_marked: bool = False
    """Whether its node waits until it has read what has arrived."""
    paused_at: float = 0.0
    """When its daemon was paused last, in virtual time."""
    cache: dict[str, Advert] = field(default_factory=dict)
    announced: Advert | None = None
    """The last advert that its process has announced."""
    streams: dict[Session, Stream] = field(default_factory=dict)
    accepted: Iterator[int] = field(default_factory=lambda: count(1))
    due: float | None = None
    """The next deadline of its program, in virtual time."""
    timer_at: float | None = None
    """When the timer expires, in virtual time. It is set again only for an earlier time."""
    clock_ahead: float = 0.0
    """Seconds by which its clock is ahead of virtual time, at time 0."""
    clock_rate: float = 1.0
    """Seconds by which its clock advances in a second."""

    @property
    def source(self) -> str:
        """The address from which its packets come to the other hosts."""
        return self.left_out or next((a for a in reversed(self.member.addresses) if a not in self.unreachable), "")

    @property
    def network(self) -> AddressesChanged:
        """The report of its daemon about its network."""
        return AddressesChanged(self.member.addresses, self.prefixes)

    @property
    def program(self) -> Program | None:
        """Our node or the stranger's program; None while neither runs."""
        return self.node or self.stranger

    @property
    def is_responsive(self) -> bool:
        """Whether a program runs on it and is not paused."""
        return (self.node is not None or self.stranger is not None) and not self.is_paused

    def is_reached_at(self, address: str) -> bool:
        """Return whether packets to `address` reach this host, if the network lets them pass."""
        addresses = (*self.member.addresses, self.left_out)
        return address in addresses and address not in self.unreachable

    def clock(self, now: float) -> float:
        """Return the time on its clock at virtual time `now`."""
        return now * self.clock_rate + self.clock_ahead

    def when(self, shown: float) -> float:
        """Return the virtual time at which its clock shows `shown` seconds, rounded up."""
        return (shown - self.clock_ahead) / self.clock_rate + 1e-7
