"""Nodes: their roles, their adverts, and the members of a group."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

MIN_ID_DIGITS = 8
"""The fewest digits of a node id, and of its beginning that is shown to people."""

MAX_ANSWERS = 12
"""Maximum number of challenges that one advert answers: as many as fit into one pair of its TXT record."""


MAX_MEMBERS: Final = 4096
"""Maximum number of members of a group: one message may list so many, and the persisted state too."""


class Role(StrEnum):
    """The role of a node in its group (`core.election`)."""

    LISTENING = "listening"
    JOINING = "joining"
    CLIENT = "client"
    MASTER = "master"


class Levels(NamedTuple):
    """The protocol levels that a node speaks: all from `lowest` to `highest`, both at least 1."""

    lowest: int
    highest: int

    def common(self, other: "Levels") -> int | None:
        """Return the highest level that both nodes speak, None if there is none."""
        level = min(self.highest, other.highest)
        return level if level >= max(self.lowest, other.lowest) else None

    def __str__(self) -> str:
        if self.lowest == self.highest:
            return f"protocol level {self.lowest}"
        return f"protocol levels {self.lowest} to {self.highest}"


SPEAKS: Final = Levels(1, 1)
"""The protocol levels of this version. Level 1 is that of release 0.1.0."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as its group knows it. `sender_id` is None while the node has no lease.

    `version` is that of its program, empty if it is not known.
    """

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    priority: int = 100
    eligible: bool = True
    sender_id: int | None = None
    acked_epoch: int | None = None
    version: str = ""
    speaks: Levels = SPEAKS


class Times(NamedTuple):
    """The times of a node that decide when the other end of its session counts as dead, in seconds."""

    heartbeat_interval: float
    dead_after: float


DEFAULT_TIMES: Final = Times(heartbeat_interval=0.5, dead_after=1.5)


class Process(NamedTuple):
    """A local process, by its peer credentials. They are shown to people, and decide nothing."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Advert:
    """The announcement of a node over mDNS. Without an answer to a challenge it may be old."""

    group: str
    id: str
    name: str
    priority: int
    eligible: bool
    role: Role
    term: int
    members: int
    addresses: tuple[str, ...]
    port: int
    speaks: Levels = SPEAKS
    is_full: bool = False
    """Whether this master has no place for another member."""
    challenge: str = ""
    """A text that this node has never used before. A master repeats it in `answers`. Empty: the node needs no proof."""
    answers: tuple[str, ...] = ()
    """The challenges of other nodes that this master has heard in the last seconds, at most MAX_ANSWERS."""


def count_distinct_digits(ids: Iterable[str]) -> int:
    """Return how many digits from the start distinguish all these node ids, at least MIN_ID_DIGITS.

    Ids that begin alike, such as 0000000000000001 and 0000000000000002, need more than others.
    """
    digits = MIN_ID_DIGITS
    for one, following in pairwise(sorted(set(ids))):
        while one[:digits] == following[:digits]:
            digits += 1
    return digits
