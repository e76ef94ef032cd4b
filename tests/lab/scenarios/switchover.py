"""An operator commands a switchover. Measured: from the command until all are one group with the new master."""

from tests.lab.group import master_is_not
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Run the scenario `trial.repeats` times."""
    before = await trial.begin()
    for repeat in range(1, trial.repeats + 1):
        (master,) = trial.group.of(before, "master")
        trial.cause(f"switchover from {master.name}", before)
        await master.call("Switchover")
        await trial.converge(trial.group, also=master_is_not(master))
        if repeat < trial.repeats:
            before = await trial.restore()
