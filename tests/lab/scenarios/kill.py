"""The master is killed with SIGKILL. Measured: from the signal until all others are one group with a new master.

The key must be the same before and after. The session manager of the dead daemon keeps sending with its key.
"""

import signal

from tests.lab.group import Failed, key_of
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Kill the master `trial.repeats` times. It is started again before the next time."""
    await end_masters(trial, signal.SIGKILL)


async def end_masters(trial: Trial, number: signal.Signals) -> None:
    """End the master with this signal, `trial.repeats` times."""
    before = await trial.begin()
    for repeat in range(1, trial.repeats + 1):
        (master,) = trial.group.of(before, "master")
        trial.cause(f"{number.name} {master.name}", before)
        master.signal(number)
        await master.ended()
        after = await trial.converge(trial.others(master))
        keys = {key_of(status) for status in (*before.values(), *after.values()) if status is not None}
        if len(keys) != 1:
            raise Failed(f"the key has changed: {keys}")
        if repeat < trial.repeats:
            master.start()
            before = await trial.restore()
