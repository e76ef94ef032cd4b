"""One run without choices: to the situation in which an exploration begins, and from its leaves to a whole group."""

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
"""Seconds of a connected, fault-free network after which a group must be one: the patience with a successor, a
discovery window, the claims of the candidates, the hold-downs of a rival and of a lost master, and a merge."""

STAYS_FOR = 1.0
"""Seconds for which it must then stay so."""

MOVES_A_SECOND = 2000
"""Moves in a second of the group's time at most, so that a run ends whatever the nodes do."""


class Stage:
    """Three devices and one way on. Messages take no time, in the order of `Moves.in_order`."""

    def __init__(self, make_node: type[Node] = Node) -> None:
        self.steps = LiveSteps()
        self.moves = Moves(self.steps, keeps_notes=True)
        self.state = State(tuple(Place(Device(number + 1, make_node), 0) for number in range(DEVICES)))
        self.making: list[Callable[[Move], None]] = []
        """Told before a move is made."""
        self.cut: frozenset[int] = frozenset()
        """The devices that the others neither hear nor are heard by."""

    def facts(self) -> list[Facts]:
        """Return what can be seen of each device."""
        return [self.steps.facts(place.local) for place in self.state.places]

    def make(self, *moves: Move) -> None:
        """Make these moves. Raises Broken."""
        for move in moves:
            for told in self.making:
                told(move)
            self.state = self.moves.make(self.state, move)
            check_group(self.state, self.facts())

    def follow(self, moves: int) -> None:
        """Make so many moves as they come in order. Raises Broken."""
        for _ in range(moves):
            self._sever()
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
        """Let time pass, and all happen that is due by then. Raises Broken."""
        end = self.moves.elapsed + round(seconds * MICROSECONDS)
        for _ in range(round(MOVES_A_SECOND * (1 + seconds))):
            self._sever()
            wait, move = self.moves.in_order(self.state)
            if move is None or self.moves.elapsed + max(wait, 0) > end:
                return
            self.make(move)
        raise Broken("waits", f"the group makes more than {MOVES_A_SECOND} moves a second")

    def part(self, *numbers: int) -> None:
        """Cut these devices off from the others, silently."""
        self.cut = frozenset(numbers)

    def heal(self) -> None:
        """Mend the cut: what each device has announced last is on its way to those that have not heard it."""
        cut, self.cut = self.cut, frozenset()
        airs = list(self.state.airs)
        for pair, (sender, receiver) in enumerate(PAIRS):
            said = self.state.said[sender]
            if (sender in cut) != (receiver in cut) and said is not None:
                airs[pair] = Air(None, (said,))
        self.state = self.state._replace(airs=tuple(airs))

    def _sever(self) -> None:
        """Lose what is on its way across the cut."""
        if not self.cut:
            return
        airs = [
            air._replace(coming=()) if (a in self.cut) != (b in self.cut) else air
            for air, (a, b) in zip(self.state.airs, PAIRS, strict=True)
        ]
        streams = [
            self._severed(s) if (s.client in self.cut) != (s.server in self.cut) else s for s in self.state.streams
        ]
        self.state = self.state._replace(airs=tuple(airs), streams=tuple(streams))

    def _severed(self, stream: Stream) -> Stream:
        return stream._replace(to_server=(), to_client=(), is_broken=True)

    def converge(self) -> None:
        """Let the group become one, with all devices, and stay so. Raises Broken."""
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
    """Return what a group lacks to be one: a master, members, a key, a sender id for each; None: nothing."""
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
