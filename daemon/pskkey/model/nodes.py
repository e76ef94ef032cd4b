"""Nodes: their roles, their adverts, and the members of a group."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MAX_ANSWERS = 12
"""Challenges that one advert answers: as many as fit into one pair of its TXT record."""


class Role(StrEnum):
    """What a node is in its group at this moment."""

    LISTENING = "listening"
    JOINING = "joining"
    CLIENT = "client"
    MASTER = "master"


@dataclass(frozen=True, slots=True)
class Member:
    """A node as its group knows it. `sender_id` is None while none is leased to it."""

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    priority: int = 100
    eligible: bool = True
    sender_id: int | None = None
    acked_epoch: int | None = None


class Process(NamedTuple):
    """A local process by its peer credentials, as they are shown to people: nothing is decided by them."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Advert:
    """What a node says of itself over mDNS. A hint: only a TLS session proves anything."""

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
    is_full: bool = False
    """Whether this master has no place for another member."""
    challenge: str = ""
    """A text that this node has never used before; a master repeats it in `answers`. Empty: it asks for no proof."""
    answers: tuple[str, ...] = ()
    """The challenges of others that this master has heard in the last seconds, MAX_ANSWERS at most."""
