"""What a scenario is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.lab.trial import Trial

type Run = Callable[[Trial], Awaitable[None]]
"""Does it once, with a group that is not started, and enters its times. Raises Failed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, and what it has unless the command line says otherwise.

    `seconds`: how long its fault lasts. `keeps_group`: all its runs are done to one group, by one call of `run`.
    """

    run: Run
    nodes: int
    runs: int
    seconds: float = 0.0
    keeps_group: bool = False
