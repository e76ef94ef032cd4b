"""A third of the nodes restart within one second: SIGTERM, and a start as soon as the process has ended.

Measured: from the first signal until all are one group again. The nodes and their times are random, so the master may
be among them.
"""

import asyncio
import signal
from typing import Final

from tests.lab.daemon import Daemon
from tests.lab.trial import Trial

WITHIN: Final = 1.0
"""Seconds from the first to the last signal."""


async def run(trial: Trial) -> None:
    """Run the scenario `trial.repeats` times."""
    before = await trial.begin()
    for repeat in range(1, trial.repeats + 1):
        daemons = trial.random.sample(trial.group.daemons, max(1, len(trial.group.daemons) // 3))
        delays = [0.0, *sorted(trial.random.uniform(0.0, WITHIN) for _ in daemons[1:])]
        trial.cause(f"restart {' '.join(daemon.name for daemon in daemons)}", before)
        await asyncio.gather(*(_restart(daemon, delay) for daemon, delay in zip(daemons, delays, strict=True)))
        await trial.converge(trial.group)
        if repeat < trial.repeats:
            before = await trial.restore()


async def _restart(daemon: Daemon, delay: float) -> None:
    await asyncio.sleep(delay)
    daemon.signal(signal.SIGTERM)
    await daemon.ended()
    daemon.start()
