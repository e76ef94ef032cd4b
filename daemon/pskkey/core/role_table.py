"""The roles of a node, and the effect of each event in each role, as one table. A test covers each cell.

`election` has the rules. A cell is the next role, or `Ignored` with the reason, or `Refused` with the code of the ERROR
that the sender gets. If the effect depends on more than the role, the text of the event names the condition.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pskkey.model import Role


class Trigger(StrEnum):
    """The events that can reach a node in any role."""

    MASTER_PROVEN = "an advert proves that its node is master"
    MASTER_HINTED = "an advert calls its node master, without a proof"
    TIME_OVER = "the present wait or attempt is over, and no better candidate and no successor is known"
    WELCOMED = "GROUP comes on the outbound session of a node that is no master"
    WELCOMED_BY_WINNER = "GROUP comes on the outbound session of a master that has lost a merge"
    FENCED = "GROUP of a lower term comes on the outbound session"
    SESSION_ENDED = "the outbound session ends, and the node is not next in a succession"
    NOT_MASTER = "the peer of the outbound session answers `not_master`"
    HANDED_OVER = "HANDOVER names this node"
    SENT_ON = "HANDOVER names another node"
    JOIN = "a client sends JOIN with another term than ours"
    JOIN_OF_MEMBER = "a client sends JOIN with our term, and this node is in no walk along the succession"
    MERGE_WON = "a client sends MERGE, and this node stays master"
    MERGE_LOST = "a client sends MERGE, and the other master stays master"
    ANSWER_WON = "MERGE on the outbound session names this node as winner"
    ANSWER_LOST = "MERGE on the outbound session names the peer as winner"
    SLEPT = "the node did not run for longer than `dead_after`"
    SWITCHOVER = "the operator asks the node to hand over to a member"


@dataclass(frozen=True, slots=True)
class Ignored:
    """No effect, for the reason `why`."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An ERROR of this code, which closes the session."""

    code: str


type Cell = Role | Ignored | Refused

_NO_SESSION: Final = Ignored("there is no outbound session")
_NOT_JOINED: Final = Ignored("only a master that this node has joined may hand over")
_ONE_AT_A_TIME: Final = Ignored("there is one attempt at a time, and a proof ends only an attempt that follows a hint")
_SESSION_IS_TRUTH: Final = Ignored("the session with the master is better evidence than an advert")
_FOR_MERGE_ONLY: Final = Ignored("the outbound session of a master that has lost no merge is for MERGE only")
_NO_MERGE: Final = Ignored("only a master merges")
_NO_QUESTION: Final = Ignored("only a master sends MERGE, so no other role expects an answer")
_NOT_LEADING: Final = Ignored("only a master hands over")
_MAY_LEAD: Final = Ignored("it waits: the client may have lost our common master earlier than this node")
_NOT_MASTER: Final = Refused("not_master")

_ROLES: Final = (Role.LISTENING, Role.JOINING, Role.CLIENT, Role.MASTER)
_CELLS: Final[dict[Trigger, tuple[Cell, Cell, Cell, Cell]]] = {
    Trigger.MASTER_PROVEN: (Role.JOINING, _ONE_AT_A_TIME, _SESSION_IS_TRUTH, Role.MASTER),
    Trigger.MASTER_HINTED: (
        Ignored("it may be an old advert: the node tries its sender when the window is over"),
        _ONE_AT_A_TIME,
        _SESSION_IS_TRUTH,
        Ignored("it may be an old advert: the master asks its sender after a while"),
    ),
    Trigger.TIME_OVER: (Role.MASTER, Role.LISTENING, Role.JOINING, Role.MASTER),
    Trigger.WELCOMED: (_NO_SESSION, Role.CLIENT, Role.CLIENT, _FOR_MERGE_ONLY),
    Trigger.WELCOMED_BY_WINNER: (_NO_MERGE, _NO_MERGE, _NO_MERGE, Role.CLIENT),
    Trigger.FENCED: (_NO_SESSION, Role.LISTENING, Role.JOINING, _FOR_MERGE_ONLY),
    Trigger.SESSION_ENDED: (_NO_SESSION, Role.LISTENING, Role.JOINING, Role.MASTER),
    Trigger.NOT_MASTER: (_NO_SESSION, Role.LISTENING, Role.JOINING, Role.MASTER),
    Trigger.HANDED_OVER: (_NO_SESSION, _NOT_JOINED, Role.MASTER, _FOR_MERGE_ONLY),
    Trigger.SENT_ON: (_NO_SESSION, _NOT_JOINED, Role.JOINING, _FOR_MERGE_ONLY),
    Trigger.JOIN: (_NOT_MASTER, _NOT_MASTER, _NOT_MASTER, Role.MASTER),
    Trigger.JOIN_OF_MEMBER: (_NOT_MASTER, _NOT_MASTER, _MAY_LEAD, Role.MASTER),
    Trigger.MERGE_WON: (_NOT_MASTER, _NOT_MASTER, _NOT_MASTER, Role.MASTER),
    Trigger.MERGE_LOST: (_NOT_MASTER, _NOT_MASTER, _NOT_MASTER, Role.MASTER),
    Trigger.ANSWER_WON: (_NO_SESSION, _NO_QUESTION, _NO_QUESTION, Role.MASTER),
    Trigger.ANSWER_LOST: (_NO_SESSION, _NO_QUESTION, _NO_QUESTION, Role.MASTER),
    Trigger.SLEPT: (
        Role.LISTENING,
        Ignored("the session shows whether its peer still lives"),
        Ignored("the session shows whether the master still lives"),
        Role.LISTENING,
    ),
    Trigger.SWITCHOVER: (_NOT_LEADING, _NOT_LEADING, _NOT_LEADING, Role.JOINING),
}
TABLE: Final = {trigger: dict(zip(_ROLES, cells, strict=True)) for trigger, cells in _CELLS.items()}
"""The cell of each trigger and role."""
