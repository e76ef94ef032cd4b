"""What the simulated network consists of: hosts with their processes, and the streams between them."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from pskkey.core.events import Session
from pskkey.core.node import Node
from pskkey.core.settings import Timing
from pskkey.model import Advert, Member
from pskkey.wire.packet import PacketReader


@dataclass
class Conditions:
    """How the network behaves: delays in seconds, probabilities of adverts to be lost or to come twice."""

    delay: tuple[float, float] = (0.0005, 0.01)
    advert_loss: float = 0.0
    advert_twice: float = 0.0


@dataclass
class Stream:
    """One session between two processes: its name, its decoder and what is on its way, at each end."""

    ends: dict["Host", Session]
    readers: dict["Host", PacketReader]
    coming: dict["Host", deque[Callable[[], None]]]
    clear_at: dict["Host", float]
    open: bool = True

    def other(self, host: "Host") -> "Host":
        return next(h for h in self.ends if h is not host)


@dataclass(eq=False)
class Host:
    """A device: its node while its process runs, and what its mDNS cache and its sockets hold."""

    name: str
    member: Member
    timing: Timing
    node: Node | None = None
    incarnation: int = 0
    paused: bool = False
    backlog: list[Callable[[], None]] = field(default_factory=list)
    cache: dict[str, Advert] = field(default_factory=dict)
    said: Advert | None = None
    streams: dict[Session, Stream] = field(default_factory=dict)
    highest_term: int = 0
    accepted: Iterator[int] = field(default_factory=lambda: count(1))
    timer: float | None = None
