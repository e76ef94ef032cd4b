"""An operator commands a switchover. Measured: from the command until all are one group with the new master."""

from tests.lab.group import master_is_not
from tests.lab.trial import AFTERMATH, PATIENCE, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    before = await trial.begin()
    (master,) = trial.group.of(before, "master")
    commanded = trial.mark(f"switchover from {master.name}")
    await master.call("Switchover")
    together, _ = await trial.group.together(PATIENCE, also=master_is_not(master))
    trial.measured.append(together - commanded)
    await trial.group.stay_together(AFTERMATH)
