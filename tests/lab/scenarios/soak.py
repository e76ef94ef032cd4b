"""One group has random faults, one after the other. Each lasts a random time and is then healed.

Measured: from the healing of each until all are one group again, and stay one. A datagram between two nodes must arrive
unless a fault separates them.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tests.lab.daemon import Daemon
from tests.lab.faults import parted, unplugged
from tests.lab.group import Condition, Statuses, epoch_above, epoch_of, master_is_not
from tests.lab.separations import Separation
from tests.lab.trial import AFTERMATH, Trial

LONGEST: Final = 4.0
"""Seconds that a fault lasts at most: longer than the nodes need to notice it."""
PERCENT: Final = 5
SILENCE: Final = 1.7
"""Seconds after which every node has noticed the silence of another."""

type Fault = Callable[[Trial, Statuses], Awaitable[None]]
"""Causes the fault and heals it, and waits until all are one group again."""


async def run(trial: Trial) -> None:
    """Cause faults for `trial.seconds`."""
    await cause_faults(trial, FAULTS)


async def cause_faults(trial: Trial, faults: Sequence[Fault]) -> None:
    """Start the group, and cause some of these faults for `trial.seconds`."""
    statuses = await trial.begin()
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        await trial.random.choice(faults)(trial, statuses)
        await trial.group.stay_together(trial.random.uniform(0.0, AFTERMATH))
        _, statuses = await trial.group.together(trial.patience)


async def _rekey(trial: Trial, statuses: Statuses) -> None:
    daemon = trial.random.choice(trial.group.daemons)
    began = trial.mark(f"rekey requested of {daemon.name}")
    await daemon.call("Rekey")
    await recover(trial, began, epoch_above(max(map(epoch_of, statuses.values()))))


async def _switch_over(trial: Trial, statuses: Statuses) -> None:
    (master,) = trial.group.of(statuses, "master")
    successor = trial.random.choice(trial.others(master).daemons)
    began = trial.mark(f"switchover from {master.name} to {successor.name}")
    await master.call("Switchover", node=successor.name)
    await recover(trial, began, master_is_not(master))


async def _restart(trial: Trial, _statuses: Statuses) -> None:
    daemon = trial.random.choice(trial.group.daemons)
    number = trial.random.choice((signal.SIGKILL, signal.SIGTERM))
    away = trial.random.choice((0.0, _some_time(trial)))
    trial.mark(f"{number.name} {daemon.name}, started after {away:.1f} s")
    daemon.signal(number)
    await daemon.ended()
    await asyncio.sleep(away)
    began = trial.mark(f"start {daemon.name}")
    daemon.start()
    await recover(trial, began)


async def _kill_in_rekey(trial: Trial, statuses: Statuses) -> None:
    (master,) = trial.group.of(statuses, "master")
    others = trial.others(master)
    after = trial.random.uniform(0.0, 0.2)
    trial.mark(f"rekey, and SIGKILL {master.name} after {1000 * after:.0f} ms")
    await master.call("Rekey")
    await asyncio.sleep(after)
    master.signal(signal.SIGKILL)
    await others.together(trial.patience)
    await master.ended()
    began = trial.mark(f"start {master.name}")
    master.start()
    await recover(trial, began)


async def _pause(trial: Trial, _statuses: Statuses) -> None:
    daemon = trial.random.choice(trial.group.daemons)
    trial.mark(f"pause {daemon.name}")
    with daemon.paused():
        await asyncio.sleep(_some_time(trial))
        began = trial.mark(f"wake {daemon.name}")
    await recover(trial, began)


async def _cut(trial: Trial, _statuses: Statuses) -> None:
    daemon = trial.random.choice(trial.group.daemons)
    sides = [[daemon], trial.others(daemon).daemons]
    separation = _separate(trial, sides, f"cut {daemon.name}")
    with unplugged(trial.laboratory.hosts, trial.host(daemon)):
        await asyncio.sleep(_some_time(trial))
        statuses = await _look(trial)
        began = trial.mark(f"plug in {daemon.name}")
    await _merge(trial, began, separation, statuses)


async def _split(trial: Trial, _statuses: Statuses) -> None:
    daemons = trial.random.sample(trial.group.daemons, len(trial.group.daemons))
    size = trial.random.randrange(1, len(daemons))
    sides = [daemons[:size], daemons[size:]]
    text = " | ".join(" ".join(daemon.name for daemon in side) for side in sides)
    separation = _separate(trial, sides, f"split {text}")
    one, other = ([trial.host(daemon) for daemon in side] for side in sides)
    with parted(trial.laboratory.hosts, one, other):
        await asyncio.sleep(_some_time(trial))
        statuses = await _look(trial)
        began = trial.mark("heal")
    await _merge(trial, began, separation, statuses)


async def _lose(trial: Trial, _statuses: Statuses) -> None:
    with trial.losing(PERCENT):
        await asyncio.sleep(_some_time(trial))
    await recover(trial, time.monotonic())


FAULTS: Final[Sequence[Fault]] = (_rekey, _switch_over, _restart, _kill_in_rekey, _pause, _cut, _split, _lose)


def _some_time(trial: Trial) -> float:
    return trial.random.uniform(0.1, LONGEST)


def _separate(trial: Trial, sides: Sequence[Sequence[Daemon]], what: str) -> Separation:
    separation = trial.separations.begin(*([daemon.name for daemon in side] for side in sides))
    trial.mark(what)
    return separation


async def _look(trial: Trial) -> Statuses:
    return {daemon.name: await daemon.status() for daemon in trial.group.daemons}


async def _merge(trial: Trial, began: float, separation: Separation, statuses: Statuses) -> None:
    """Wait until the separated nodes are one group, with a new key if there were two masters.

    `statuses` are from before the healing: afterwards some nodes may be in the new group already.
    """
    separation.note_healing()
    had_two = len(trial.group.of(statuses, "master")) > 1
    await recover(trial, began, epoch_above(max(map(epoch_of, statuses.values())) if had_two else 0))
    separation.note_merge()


async def recover(trial: Trial, began: float, also: Condition = lambda _: None) -> None:
    """Wait until all are one group again after a fault that ended at `began`, and note the time."""
    # They may look like one group until a node notices that another has been silent for too long.
    together, _ = await trial.group.settled(SILENCE, trial.patience, also)
    trial.measured.append(together - began)
