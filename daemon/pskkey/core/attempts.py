"""What a node is in the middle of, and until when: listening, an outbound session, a walk along the succession."""

from dataclasses import dataclass
from enum import StrEnum

from pskkey.core.events import Session
from pskkey.model import Group, Member


class Phase(StrEnum):
    """How far an outbound session has come."""

    CONNECTING = "connecting"
    GREETING = "greeting"
    JOINED = "joined"


@dataclass(slots=True)
class Link:
    """The one outbound session: to join `peer`, or, from a master, to settle with it."""

    session: Session
    peer: Member
    deadline: float
    phase: Phase = Phase.CONNECTING
    next_heartbeat: float = 0.0


@dataclass(slots=True)
class Listening:
    """Looking for a master until `until`; then the wait of the k-th best candidate, until `claim_at`."""

    until: float
    claim_at: float | None = None


@dataclass(slots=True)
class Takeover:
    """The walk along the succession, `order`, after a master was lost (position -1: the lost one, once more)."""

    order: tuple[Member, ...]
    position: int
    patience_until: float = 0.0
    retry_at: float | None = None


def successors(group: Group | None, without: str) -> tuple[Member, ...]:
    """Return the members in the order of the succession that `group` told, but for the node `without`."""
    if group is None:
        return ()
    by_id = {m.id: m for m in group.members}
    return tuple(by_id[i] for i in group.succession if i in by_id and i != without)
