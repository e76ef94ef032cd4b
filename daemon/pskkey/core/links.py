"""The outbound sessions of a node, as the core knows them."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import NamedTuple

from pskkey.core.events import Session
from pskkey.model import UNNAMED_PSK, Join, Member, PskName, Times


class Phase(StrEnum):
    """The progress of an outbound session."""

    CONNECTING = "connecting"
    STANDBY = "standby"
    GREETING = "greeting"
    JOINED = "joined"


@dataclass(slots=True)
class Link:
    """An outbound session to `peer`. A master sends MERGE on it, unless it yields. Any other node sends JOIN."""

    session: Session
    peer: Member
    deadline: float
    phase: Phase = Phase.CONNECTING
    next_heartbeat: float = 0.0
    address: str = ""
    """The address at which the peer answered, once the session is open."""
    psk: PskName = UNNAMED_PSK
    """The PSK of the session, once it is open."""
    yields: bool = False
    """Whether this node is a master that has lost a merge. It stays master until `peer` has accepted its JOIN."""
    joined_at: float = -inf
    """When the peer has accepted this node as a member, on this session or on one that it has replaced."""
    joined_as: Join | None = None
    """The last JOIN on the session."""
    peer_times: Times | None = None
    """The times of the peer, from its GROUP."""
    acked: str = ""
    """The fingerprint of the last key that was acknowledged on the session."""
    was_standby: bool = False
    """Whether it was a standby session (`standby`), so nobody has just connected to the peer."""
    has_patience: bool = False
    """Whether the peer has answered JOIN with a heartbeat: it is alive, but not master yet (`waiting_joins`)."""


class Loss(NamedTuple):
    """The cause of the end of a session. `reason` is for the operator.

    `code` is from an ERROR, or one of ours (`loss_codes`, `events.Disconnected`).
    """

    code: str
    reason: str
