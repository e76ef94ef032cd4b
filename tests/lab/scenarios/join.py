"""One more node joins a group. Measured: from the start of its process until it has the group's key.

Master and key must stay the same: a newcomer changes nothing.
"""

from tests.lab.group import Failed, key_of
from tests.lab.trial import CALM, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once. The newcomer is chosen at random, so its rank may be higher than the master's."""
    late = trial.random.choice(trial.group.daemons)
    early = trial.others(late)
    trial.laboratory.set_speed()
    trial.watch_machine()
    early.start()
    _, before = await early.together(trial.patience)
    await early.stay_together(CALM)
    late.start()
    together, after = await trial.group.together(trial.patience)
    for name, status in before.items():
        now = after[name]
        if status is None or now is None or now["term"] != status["term"] or key_of(now) != key_of(status):
            raise Failed(f"the newcomer has changed the term or the key of {name}: {status}, now {now}")
    await trial.group.stay_together(CALM)
    trial.measured.append(together - late.started_at)
