"""The master's cable is unplugged. Measured: from then until all others are one group with a new master."""

from tests.lab.faults import unplugged
from tests.lab.trial import AFTERMATH, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    before = await trial.begin()
    (master,) = trial.group.of(before, "master")
    survivors = trial.others(master)
    trial.separations.begin([master.name], [daemon.name for daemon in survivors.daemons])
    cut = trial.mark(f"cut {master.name}")
    with unplugged(trial.laboratory.hosts, trial.host(master)):
        together, _ = await survivors.together(trial.patience)
        trial.measured.append(together - cut)
        await survivors.stay_together(AFTERMATH)
