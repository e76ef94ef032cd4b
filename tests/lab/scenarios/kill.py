"""The master is killed with SIGKILL. Measured: from the signal until all others are one group with a new master.

The key must be the same before and after. The session manager of the dead daemon keeps sending with its key.
"""

import signal

from tests.lab.group import Failed, key_of
from tests.lab.trial import AFTERMATH, PATIENCE, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    before = await trial.begin()
    (master,) = trial.group.of(before, "master")
    survivors = trial.others(master)
    killed = trial.mark(f"kill {master.name}")
    master.signal(signal.SIGKILL)
    together, after = await survivors.together(PATIENCE)
    trial.measured.append(together - killed)
    await survivors.stay_together(AFTERMATH)
    await master.ended()
    keys = {key_of(status) for status in (*before.values(), *after.values()) if status is not None}
    if len(keys) != 1:
        raise Failed(f"the key has changed: {keys}")
