"""The master's daemon is stopped for a while with SIGSTOP. Its session manager and its network work on.

Measured: from the signal until all others are one group with a new master. `sleeper_ms`: from SIGCONT until the
paused daemon follows the new master.
"""

import time

from tests.lab.group import Failed
from tests.lab.trial import AFTERMATH, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    before = await trial.begin()
    (master,) = trial.group.of(before, "master")
    others = trial.others(master)
    paused = trial.mark(f"pause {master.name}")
    with master.paused():
        together, meanwhile = await others.together(trial.patience)
        trial.measured.append(together - paused)
        await others.stay_together(paused + trial.seconds - time.monotonic())
        woken = trial.mark(f"wake {master.name}")
    together, after = await trial.group.together(trial.patience)
    trial.figures["sleeper"].append(together - woken)
    if trial.group.of(after, "master") != others.of(meanwhile, "master"):
        raise Failed(f"the master has changed since {master.name} was continued")
    await trial.group.stay_together(AFTERMATH)
