"""The record of a scenario."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.lab.trial import Trial

type Run = Callable[[Trial], Awaitable[None]]
"""Runs the scenario once, with a group that is not started, and enters its times. Raises Failed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, and its defaults for the options of the command line.

    `seconds`: how long its fault lasts. `keeps_group`: all its runs use one group, in one call of `run`.
    `may_keep_group`: they can, when the command line has it. `needs_traffic`: it is about the traffic.
    """

    run: Run
    nodes: int
    runs: int
    seconds: float = 0.0
    keeps_group: bool = False
    may_keep_group: bool = False
    needs_traffic: bool = False
