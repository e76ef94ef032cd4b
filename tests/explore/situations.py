"""The situations in which an exploration begins, and the faults that are then allowed.

A run without choices leads to each situation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pskkey.core.node import Node
from tests.explore.stage import Stage
from tests.explore.state import Allowed, State

WAY: Final = 45
"""Moves of the undisturbed way along which a search begins. After about so many moves the group is whole."""


@dataclass(frozen=True)
class Situation:
    """`name`: `scenario` or `scenario/variant`; `prepare`: leads to the situation.

    `along`: the search begins not only there, but also after each of the next `along` moves of the undisturbed way.
    """

    name: str
    prepare: Callable[[Stage], None]
    allowed: Allowed
    along: int = 0

    @property
    def scenario(self) -> str:
        """The name of the scenario."""
        return self.name.partition("/")[0]

    def begin(self, make_node: type[Node] = Node) -> State:
        """Return the first state, which has live devices."""
        stage = Stage(make_node)
        self.prepare(stage)
        return stage.state._replace(allowed=self.allowed)


def _whole(stage: Stage) -> None:
    stage.start(0, 1, 2)
    stage.converge()


def _join(stage: Stage) -> None:
    """There is a master, and two nodes have just started."""
    stage.start(0)
    stage.run(3.0)
    stage.start(1, 2)


def _boot(stage: Stage) -> None:
    """Three nodes have just started."""
    stage.start(0, 1, 2)


def _daemon_dies(stage: Stage) -> None:
    """The daemon of a master has died; its device lives."""
    _whole(stage)
    stage.disturb("x", 0)


def _power_is_lost(stage: Stage) -> None:
    """The device of a master has lost its power."""
    _whole(stage)
    stage.disturb("p", 0)


def _dies_with_a_newcomer(stage: Stage) -> None:
    """The daemon of a master dies when it has accepted a newcomer, before the other member is notified."""
    stage.start(0, 1)
    stage.run(3.0)
    stage.cut_off(1)
    stage.start(2)
    while stage.facts()[2].sends is None:
        stage.follow(1)
    stage.disturb("x", 0)
    stage.heal()


def _rekey(stage: Stage) -> None:
    """A member's operator has asked for a new key."""
    _whole(stage)
    stage.disturb("r", 1)


def _switchover(stage: Stage) -> None:
    """A master hands over its mastership."""
    _whole(stage)
    stage.disturb("w", 0)


def _switchover_in_rekey(stage: Stage) -> None:
    """A master has made a new key, and hands over before any member has it."""
    _whole(stage)
    stage.disturb("r", 0)
    stage.disturb("w", 0)


def _two_groups_meet(stage: Stage) -> None:
    """Two masters meet that were never in one group. One of them has a member."""
    stage.cut_off(2)
    stage.start(0, 1, 2)
    stage.run(8.0)
    stage.heal()


def _a_split_heals(stage: Stage) -> None:
    """The master of a group was cut off. Both partitions have rekeyed, to different keys of the same epoch."""
    _whole(stage)
    stage.cut_off(0)
    stage.run(5.0)
    stage.disturb("r", 0)
    stage.disturb("r", 1)
    stage.run(20.0)
    stage.heal()


SITUATIONS: tuple[Situation, ...] = (
    Situation("join", _join, Allowed(breaks=1, crashes=1, power_losses=1, repeats=1)),
    Situation("join/boot", _boot, Allowed(breaks=1, crashes=1, power_losses=1, repeats=1)),
    Situation("failover", _daemon_dies, Allowed(breaks=1, crashes=1, power_losses=1, rekeys=1)),
    Situation("failover/power", _power_is_lost, Allowed(breaks=1, crashes=1, power_losses=1, rekeys=1)),
    Situation("failover/newcomer", _dies_with_a_newcomer, Allowed(breaks=1, crashes=1, power_losses=1)),
    Situation("rekey", _rekey, Allowed(breaks=1, crashes=1, power_losses=1, rekeys=1)),
    Situation("switchover", _switchover, Allowed(breaks=1, crashes=1, power_losses=1, rekeys=1, switchovers=1)),
    Situation("switchover/rekey", _switchover_in_rekey, Allowed(breaks=1, crashes=1, power_losses=1, switchovers=1)),
    Situation("merge", _two_groups_meet, Allowed(breaks=1, crashes=1, power_losses=1, rekeys=1)),
    Situation("merge/split", _a_split_heals, Allowed(breaks=1, crashes=1, power_losses=1, rekeys=1)),
)

SITUATIONS += tuple(
    replace(situation, name=f"{situation.name}/along", along=WAY)
    for situation in SITUATIONS
    if situation.name in {"join", "failover", "rekey", "switchover", "merge", "merge/split"}
)

SCENARIOS: tuple[str, ...] = tuple(dict.fromkeys(s.scenario for s in SITUATIONS))
