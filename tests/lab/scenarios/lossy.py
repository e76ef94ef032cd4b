"""The network drops 5 % of all packets that a node sends and 5 % of all that it receives.

The master and the term must stay the same. No datagram may be lost but those that the network drops.
"""

from typing import Final

from tests.lab.group import Failed
from tests.lab.trial import AFTERMATH, Trial

PERCENT: Final = 5


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    before = await trial.begin()
    with trial.losing(PERCENT):
        await trial.group.stay_together(trial.seconds)
    await trial.group.stay_together(AFTERMATH)
    _, after = await trial.group.together(trial.patience)
    terms = {status["term"] for status in (*before.values(), *after.values()) if status is not None}
    masters = {daemon.name for statuses in (before, after) for daemon in trial.group.of(statuses, "master")}
    if len(terms) != 1 or len(masters) != 1:
        raise Failed(f"the master has changed: terms {terms}, masters {masters}")
