"""The decisions of the election, as values. `Node` applies each of them to its other parts, in one place each."""

from dataclasses import dataclass

from pskkey.core.events import Session
from pskkey.model import Group, Handover, Member


@dataclass(frozen=True, slots=True)
class Leading:
    """This node is the master now. `inherited` are the members in a trusted HANDOVER; empty in other cases."""

    inherited: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class SteppedDown:
    """This node is not the master any more. `handover` names the next master; None if no master is known."""

    handover: Handover | None


@dataclass(frozen=True, slots=True)
class WithoutMaster:
    """This node is neither master nor member, and looks for a master."""


@dataclass(frozen=True, slots=True)
class GroupReceived:
    """The master of this node has sent this GROUP, or a GROUP_CHANGE that results in it.

    `senders`: the sender ids in use, None if KEY_STATE has them. `settles`: the session, if the group belongs to the
    keys that have arrived on it before; None if KEY_STATE follows.
    """

    group: Group
    senders: frozenset[int] | None = None
    settles: Session | None = None


@dataclass(frozen=True, slots=True)
class MergeWon:
    """The master with the id `master` yields to this master: it will join."""

    master: str


type Transition = Leading | SteppedDown | WithoutMaster | GroupReceived | MergeWon
