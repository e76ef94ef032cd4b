"""The core keeps its guarantees in every order of delivery, loss and crash of a group of three, up to STATES states.

`tests/explore/run` goes deeper. A test that fails names the trace for `tests/explore/run --show`.
"""

import pytest

from tests.explore.device import Device
from tests.explore.moves import parse
from tests.explore.search import ALONG, Search
from tests.explore.situations import SCENARIOS, SITUATIONS, Situation
from tests.explore.snapshot import digest
from tests.explore.stage import Stage
from tests.explore.state import State

STATES = 6_500
"""States of each situation."""

RUNS = 20
"""States of each situation from which the group must become whole, once with the adverts on their way, once without."""

REPLAYED = 5
"""States of each situation whose trace is repeated."""


def test_all_situations_have_a_hundred_thousand_states() -> None:
    assert SCENARIOS == ("join", "failover", "rekey", "switchover", "merge")
    assert STATES * len(SITUATIONS) >= 100_000


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_every_order_keeps_guarantees(situation: Situation) -> None:
    search = Search(situation)
    found = search.explore(STATES, runs=RUNS)
    assert found.fault is None, f"{found.fault.text}; tests/explore/run --show '{found.fault.trace}'"
    assert found.states >= STATES
    assert found.runs == 2 * RUNS
    # The search makes each step of a device once, and takes it from a table later. A trace uses the devices themselves.
    for trace, state in search.leaves(REPLAYED):
        assert _form(_replayed(situation, trace)) == _form(state), trace


def _replayed(situation: Situation, trace: str) -> State:
    stage = Stage()
    situation.prepare(stage)
    stage.state = stage.state._replace(allowed=situation.allowed)
    for word in trace.partition(":")[2].split():
        if word.startswith(ALONG):
            stage.follow(int(word.removeprefix(ALONG)))
        else:
            stage.make(parse(word))
    return stage.state


def _form(state: State) -> tuple[object, ...]:
    devices = [(place.local, place.age) for place in state.places]
    forms = [(digest(device, device.at), age) for device, age in devices if isinstance(device, Device)]
    return (forms, *state[1:])
