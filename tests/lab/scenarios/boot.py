"""All nodes start at once. Measured: from the start of the first process until all are one group with one key."""

from tests.lab.trial import CALM, PATIENCE, Trial


async def run(trial: Trial) -> None:
    """Do it once."""
    trial.watch_machine()
    started = trial.group.start()
    together, _ = await trial.group.together(PATIENCE)
    await trial.group.stay_together(CALM)
    trial.measured.append(together - started)
