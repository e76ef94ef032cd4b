"""What a scenario is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.lab.group import Group
from tests.lab.laboratory import Laboratory

CALM: float = 0.3
"""Seconds for which a group must stay one after it has become so, before anything is done to it or it is believed."""

PATIENCE: float = 15.0
"""Seconds after which a group will not come together any more."""

type Run = Callable[[Laboratory, Group], Awaitable[float]]
"""Does it once with a group that is not started; returns how long it took, in seconds. Raises Failed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, and how many nodes and runs it has unless the command line says otherwise."""

    run: Run
    nodes: int
    runs: int
