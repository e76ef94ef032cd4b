"""The soak, in a group of two builds: each node runs the last released build or this one. A further fault replaces one
by the other.
"""

import signal

from tests.lab.group import Statuses
from tests.lab.scenarios.soak import FAULTS, cause_faults, recover
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Cause faults for `trial.seconds`."""
    builds = [trial.laboratory.released, None]
    for number, daemon in enumerate(trial.group.daemons):
        daemon.build = builds[number % 2]
    await cause_faults(trial, (*FAULTS, _replace, _replace))


async def _replace(trial: Trial, _statuses: Statuses) -> None:
    daemon = trial.random.choice(trial.group.daemons)
    daemon.build = trial.laboratory.released if daemon.build is None else None
    began = trial.mark(f"{'upgrade' if daemon.build is None else 'downgrade'} {daemon.name}")
    daemon.signal(signal.SIGTERM)
    await daemon.ended()
    daemon.start()
    await recover(trial, began)
