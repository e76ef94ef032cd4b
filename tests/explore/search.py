"""The search visits every state that can be reached, the nearest first.

Two states are the same if these are equal: the form of each device (`snapshot`) and the time since its last step, the
sessions and the adverts with all packets on their way, the faults that are still allowed, and the uses of sender ids.
The way to a state does not count, so its trace is a shortest one.

When the search ends, some of the states that it has not visited are chosen evenly. From each of them a run without
faults must lead to a whole group, once with all adverts that are on their way, and once without.
"""

import gc
from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pskkey.core.node import Node
from tests.explore.device import Broken, Device
from tests.explore.guarantees import check_group
from tests.explore.moves import Cost, Move, Moves
from tests.explore.situations import Situation
from tests.explore.stage import Stage
from tests.explore.state import Place, State
from tests.explore.steps import KeptSteps

ALONG = "~"
"""With a number it is the first word of a trace that begins with this number of moves of the undisturbed way."""

HEARD, UNHEARD = "heard", "unheard"
"""The last word of a trace that ends with a run without faults: the adverts on their way arrive, or they are lost."""


@dataclass(frozen=True)
class Fault:
    """A guarantee that does not hold, and the shortest trace to the state in which it does not."""

    guarantee: str
    text: str
    trace: str


@dataclass
class Found:
    """The results of a search. `depth`: all states up to this depth were met."""

    situation: str
    states: int = 0
    moves: int = 0
    depth: int = 0
    device_states: int = 0
    runs: int = 0
    fault: Fault | None = None


class _Waiting(NamedTuple):
    """A state from which the moves of one cost have not been made yet."""

    number: int
    state: State
    form: bytes
    cost: Cost


class Search:
    """One search from one situation."""

    def __init__(self, situation: Situation, make_node: type[Node] = Node) -> None:
        self._situation = situation
        self._make_node = make_node
        self._steps = KeptSteps()
        self._moves = Moves(self._steps)
        self._numbers: dict[Hashable, int] = {}
        self._costs: dict[bytes, int] = {}
        """By state: the length of the shortest way to it."""
        self._layers: dict[int, list[_Waiting]] = {}
        """The states that have not been visited yet, by the depth to which they lead, less one."""
        self._predecessors: list[tuple[int, Move]] = []
        """By state: the number of its predecessor, and the move from there."""
        self.found = Found(situation.name)

    def explore(self, states: int, depth: int | None = None, runs: int = 0) -> Found:
        """Visit every state up to `depth`, until `states` were met. Then make `runs` without faults."""
        gc.disable()  # KeptSteps collects
        try:
            self._search(states, depth, runs)
        finally:
            gc.enable()
        return self.found

    def _search(self, states: int, depth: int | None, runs: int) -> None:
        found = self.found
        try:
            state = self._situation.begin(self._make_node)
        except Broken as broken:
            found.fault = Fault(broken.guarantee, str(broken), f"{self._situation.name}:")
            return
        places = tuple(Place(self._steps.keep(_device(p)), p.age) for p in state.places)
        self._record(state._replace(places=places), 0, Move("s", (0,)), 0)
        self._record_undisturbed_way(state._replace(places=places))
        cost = 0
        while cost in self._layers and found.fault is None and len(self._costs) < states:
            layer = self._layers[cost]
            if depth is not None and cost >= depth:
                break
            for waiting in layer:
                if not self._visit(waiting, cost):
                    break
                if len(self._costs) >= states:
                    break
            else:
                found.depth = cost + 1
                del self._layers[cost]
                # Faults may be the only moves from a layer, so the next layers may be empty.
                cost = min(self._layers, default=cost + 1)
        found.states, found.device_states = len(self._costs), self._steps.states
        if found.fault is None:
            self._run_leaves(runs)

    def _record_undisturbed_way(self, state: State) -> None:
        """Record the states of the undisturbed way too, as many as the situation demands."""
        for number in range(self._situation.along):
            _, move = self._moves.in_order(state)
            assert move is not None
            state = self._moves.make(state, move)
            self._record(state, number, move, 0)

    def _visit(self, waiting: _Waiting, cost: int) -> bool:
        """Make the moves from a state to the next depth. Return False if one has led to a fault."""
        number, state, form, kind = waiting
        if self._costs[form] + kind - 1 < cost:
            return True  # there is a shorter way to it
        for move in self._moves.possible_moves(state, kind):
            self.found.moves += 1
            try:
                after = self._moves.make(state, move)
                check_group(after, [self._steps.facts(place.local) for place in after.places])
            except Broken as broken:
                self.found.fault = Fault(broken.guarantee, str(broken), f"{self.trace(number)} {move}")
                return False
            self._record(after, number, move, cost + 1)
        return True

    def _record(self, state: State, predecessor: int, move: Move, cost: int) -> None:
        """Record a state for a later visit, unless an equally short way to it is known."""
        form = array("q", self._form(state)).tobytes()
        if self._costs.get(form, cost + 1) > cost:
            self._costs[form] = cost
            for kind in Cost:
                waiting = _Waiting(len(self._predecessors), state, form, kind)
                self._layers.setdefault(cost + kind - 1, []).append(waiting)
            self._predecessors.append((predecessor, move))

    def leaves(self, number: int) -> Iterator[tuple[str, State]]:
        """Yield `number` of the states that have not been visited, each with its trace and its own devices."""
        left = [one for layer in self._layers.values() for one in layer if one.cost is Cost.PROMPT]
        number = min(number, len(left))
        for n in range(number):
            one = left[n * len(left) // number]
            places = tuple(Place(self._steps.device(place.local), place.age) for place in one.state.places)
            yield self.trace(one.number), one.state._replace(places=places)

    def _run_leaves(self, runs: int) -> None:
        for how in (HEARD, UNHEARD):
            for trace, state in self.leaves(runs):
                self.found.runs += 1
                stage = Stage()
                stage.state = state
                try:
                    run_without_faults(stage, how)
                except Broken as broken:
                    self.found.fault = Fault(broken.guarantee, str(broken), f"{trace} {how}")
                    return

    def trace(self, number: int) -> str:
        """Return the way to a state: the situation, the number of moves of the undisturbed way, and the other moves."""
        moves: list[str] = []
        while number > self._situation.along:
            number, move = self._predecessors[number]
            moves.append(str(move))
        along = [f"{ALONG}{number}"] if number else []
        return " ".join([f"{self._situation.name}:", *along, *reversed(moves)])

    def _form(self, state: State) -> Iterator[int]:
        for place in state.places:
            assert isinstance(place.local, int)
            yield from (place.local, place.age)
        numbers = self._numbers
        parts: tuple[Hashable, ...] = (*state.streams, state.airs, state.announced, state.allowed, state.uses)
        for part in parts:
            yield numbers.setdefault(part, len(numbers))


def _device(place: Place) -> Device:
    assert isinstance(place.local, Device)
    return place.local


def run_without_faults(stage: Stage, how: str) -> None:
    """Let a group become whole from its present state. Raises Broken."""
    if how == UNHEARD:
        stage.state = stage.state._replace(airs=tuple(air._replace(coming=()) for air in stage.state.airs))
    stage.converge()
