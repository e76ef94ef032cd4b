"""What the election has decided, as values: the node applies each of them to its other parts, in one place each."""

from dataclasses import dataclass

from pskkey.model import Handover, Member, Merge


@dataclass(frozen=True, slots=True)
class Leading:
    """We are the master now. `inherited` are the members that the last master named when it handed over to us."""

    inherited: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class SteppedDown:
    """We are the master no more. `handover` names the next one, None: we do not know of one."""

    handover: Handover | None


@dataclass(frozen=True, slots=True)
class WithoutMaster:
    """We are neither master nor member, and look for a master."""


@dataclass(frozen=True, slots=True)
class MergeWon:
    """Another master yields to us. `merge` has the epoch above both, and says how many members come over."""

    merge: Merge


type Transition = Leading | SteppedDown | WithoutMaster | MergeWon
