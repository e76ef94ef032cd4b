"""An operator commands rekeys. Measured: from each command until every node sends with the new key."""

import asyncio
import time
from typing import Final

from tests.lab.group import epoch_above, epoch_of
from tests.lab.trial import Trial

PACE: Final = 1.1
"""Seconds from one command to the next; a group rekeys at most once a second."""


async def run(trial: Trial) -> None:
    """Rekey `trial.repeats` times."""
    statuses = await trial.begin()
    (master,) = trial.group.of(statuses, "master")
    await asyncio.sleep(PACE)  # the start of the session managers has just caused a rekey
    for _ in range(trial.repeats):
        epoch = max(map(epoch_of, trial.group.logged().values()))
        commanded = trial.cause(f"rekey of epoch {epoch}", statuses)
        await master.call("Rekey")
        statuses = await trial.converge(trial.group, also=epoch_above(epoch))
        await asyncio.sleep(commanded + PACE - time.monotonic())
