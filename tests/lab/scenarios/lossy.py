"""The network loses 5 % of all that a node sends and of all that it receives.

Nothing may come of it: the master and the term stay, and what is lost is what the network has dropped.
"""

from typing import Final

from tests.lab.faults import lossy
from tests.lab.group import Failed
from tests.lab.trial import AFTERMATH, PATIENCE, Trial

PERCENT: Final = 5


async def run(trial: Trial) -> None:
    """Do it once."""
    before = await trial.begin()
    trial.mark("lossy")
    with lossy(trial.laboratory.hosts, PERCENT) as network:
        await trial.group.stay_together(trial.seconds)
        up, down = network.dropped()
    trial.dropped_by_network += up * (len(trial.group.daemons) - 1) + down
    await trial.group.stay_together(AFTERMATH)
    _, after = await trial.group.together(PATIENCE)
    terms = {status["term"] for status in (*before.values(), *after.values()) if status is not None}
    masters = {daemon.name for statuses in (before, after) for daemon in trial.group.of(statuses, "master")}
    if len(terms) != 1 or len(masters) != 1:
        raise Failed(f"the master has changed: terms {terms}, masters {masters}")
