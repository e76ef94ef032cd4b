"""A run without choices: to the situation in which an exploration begins, or from its last states to a whole group."""

from collections.abc import Callable, Sequence

from pskkey.core.node import Node
from pskkey.model import Role
from tests.explore.device import Broken, Device, Facts
from tests.explore.guarantees import check_group
from tests.explore.moves import Move, Moves
from tests.explore.snapshot import MICROSECONDS
from tests.explore.state import DEVICES, PAIRS, Air, Allowed, Place, State, Stream
from tests.explore.steps import LiveSteps

CONVERGES_WITHIN = 12.0
"""Seconds of a connected, fault-free network after which a group must be whole.

This is the sum of the patience with a successor, a discovery window, the claims of the candidates, the hold-downs of a
rival and of a lost master, and a merge.
"""

STAYS_FOR = 1.0
"""Seconds for which the group must then stay whole."""

MOVES_A_SECOND = 2000
"""The most moves in a second of virtual time, so that every run ends."""


class Stage:
    """Three devices that follow one way, by `Moves.in_order`. Messages take no time."""

    def __init__(self, make_node: type[Node] = Node) -> None:
        self.steps = LiveSteps()
        self.moves = Moves(self.steps, keeps_notes=True)
        self.state = State(tuple(Place(Device(number + 1, make_node), 0) for number in range(DEVICES)))
        self.observers: list[Callable[[Move], None]] = []
        """Called before each move."""
        self.cut: frozenset[int] = frozenset()
        """The devices that the others neither hear nor are heard by."""

    def facts(self) -> list[Facts]:
        """Return the visible state of each device."""
        return [self.steps.facts(place.local) for place in self.state.places]

    def make(self, *moves: Move) -> None:
        """Make these moves. Raises Broken."""
        for move in moves:
            for observer in self.observers:
                observer(move)
            self.state = self.moves.make(self.state, move)
            check_group(self.state, self.facts())

    def follow(self, moves: int) -> None:
        """Make the next `moves` moves of the undisturbed way. Raises Broken."""
        for _ in range(moves):
            self._lose_cut_packets()
            _, move = self.moves.in_order(self.state)
            assert move is not None
            self.make(move)

    def start(self, *numbers: int) -> None:
        """Start the daemons of these devices, each numbered from 0."""
        self.make(*(Move("s", (number,)) for number in numbers))

    def disturb(self, what: str, number: int) -> None:
        """Let a daemon die (`x`, `p`), or an operator ask for a new key (`r`) or another master (`w`)."""
        self.state = self.state._replace(allowed=Allowed(1, 1, 1, 1, 1, 1))
        self.make(Move(what, (number,)))

    def run(self, seconds: float) -> None:
        """Let `seconds` pass, and make all moves that are due in that time. Raises Broken."""
        end = self.moves.elapsed + round(seconds * MICROSECONDS)
        for _ in range(round(MOVES_A_SECOND * (1 + seconds))):
            self._lose_cut_packets()
            wait, move = self.moves.in_order(self.state)
            if move is None or self.moves.elapsed + max(wait, 0) > end:
                return
            self.make(move)
        raise Broken("waits", f"the group makes more than {MOVES_A_SECOND} moves a second")

    def cut_off(self, *numbers: int) -> None:
        """Cut these devices off from the others, silently."""
        self.cut = frozenset(numbers)

    def heal(self) -> None:
        """Mend the cut. The last advert of each device is then on its way to the devices on the other side."""
        cut, self.cut = self.cut, frozenset()
        airs = list(self.state.airs)
        for pair, (sender, receiver) in enumerate(PAIRS):
            last_advert = self.state.announced[sender]
            if (sender in cut) != (receiver in cut) and last_advert is not None:
                airs[pair] = Air(None, (last_advert,))
        self.state = self.state._replace(airs=tuple(airs))

    def _lose_cut_packets(self) -> None:
        """Drop all packets and adverts that are on their way across the cut."""
        if not self.cut:
            return
        airs = [
            air._replace(coming=()) if (a in self.cut) != (b in self.cut) else air
            for air, (a, b) in zip(self.state.airs, PAIRS, strict=True)
        ]
        streams = [
            self._broken(s) if (s.client in self.cut) != (s.server in self.cut) else s for s in self.state.streams
        ]
        self.state = self.state._replace(airs=tuple(airs), streams=tuple(streams))

    def _broken(self, stream: Stream) -> Stream:
        return stream._replace(to_server=(), to_client=(), is_broken=True)

    def converge(self) -> None:
        """Check that the group becomes whole, with all devices, and stays so. Raises Broken."""
        self.start(*(number for number, one in enumerate(self.facts()) if one.role is None))
        end = self.moves.elapsed + round(CONVERGES_WITHIN * MICROSECONDS)
        since: int | None = None
        while since is None or self.moves.elapsed < since + STAYS_FOR * MICROSECONDS:
            self.run(0.0)
            wrong = why_not_whole(self.facts())
            if wrong is not None and self.moves.elapsed > end:
                raise Broken("converges", f"{wrong}, {CONVERGES_WITHIN:g} s after the last fault")
            since = None if wrong is not None else self.moves.elapsed if since is None else since
            _, move = self.moves.in_order(self.state)
            if move is None:
                raise Broken("waits", "the whole group waits for nothing")
            self.make(move)


def why_not_whole(facts: Sequence[Facts]) -> str | None:
    """Return the reason why a group is not whole: its masters, members, terms, keys or senders; None: it is whole."""
    masters = [one for one in facts if one.role is Role.MASTER]
    if len(masters) != 1:
        return f"{len(masters)} masters"
    leader = masters[0]
    if any(one is not leader and (one.role, one.master) != (Role.CLIENT, leader.master) for one in facts):
        return "not all are members"
    if any(one.term != leader.term for one in facts):
        return f"the terms are {[one.term for one in facts]}"
    if leader.current is None or any(one.current != leader.current or not one.is_settled for one in facts):
        return f"the keys are {[one.current for one in facts]}"
    if any(leader.current not in {key for _, key in one.knows} for one in facts):
        return "not all session managers know the key"
    if any(one.sends is None or one.sends[0] != leader.current for one in facts):
        return f"the session managers send with {[one.sends for one in facts]}"
    return None
