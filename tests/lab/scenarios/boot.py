"""All nodes start at once. Measured: from the start of the first process until all are one group with one key.

`loading_ms`: how long the same number of processes take, at once as well, only to load the modules of the daemon. It is
most of the time where ten nodes share two processors, but not on a device.
"""

import asyncio
import subprocess
import time

from tests.lab.daemon import PSKKEYD, Daemon, environment
from tests.lab.group import Failed
from tests.lab.trial import CALM, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    loading = time.monotonic()
    await asyncio.gather(*map(_load, trial.group.daemons))
    trial.figures["loading"].append(time.monotonic() - loading)
    trial.laboratory.set_speed()
    trial.watch_machine()
    started = trial.group.start()
    together, _ = await trial.group.together(trial.patience)
    await trial.group.stay_together(CALM)
    trial.measured.append(together - started)


async def _load(daemon: Daemon) -> None:
    process = await asyncio.create_subprocess_exec(
        *daemon.prefix, PSKKEYD, "--version", stdout=subprocess.DEVNULL, env=environment()
    )
    if await process.wait() != 0:
        raise Failed(f"{daemon.name} cannot even print its version")
