"""The network falls into two halves, and heals. Measured: from the healing until there is one master and one new epoch.

Each half is to be one group with a master of its own; it may roll its key meanwhile, as it likes.
"""

from tests.lab.faults import parted
from tests.lab.group import Group, epoch_above, epoch_of
from tests.lab.trial import AFTERMATH, PATIENCE, Trial


async def run(trial: Trial) -> None:
    """Do it once, with random halves."""
    await trial.begin()
    daemons = trial.random.sample(trial.group.daemons, len(trial.group.daemons))
    halves = [Group(daemons[: len(daemons) // 2]), Group(daemons[len(daemons) // 2 :])]
    separation = trial.separations.begin(*([daemon.name for daemon in half.daemons] for half in halves))
    trial.mark(f"split {' | '.join(' '.join(daemon.name for daemon in half.daemons) for half in halves)}")
    one, other = ([trial.host(daemon) for daemon in half.daemons] for half in halves)
    with parted(trial.laboratory.hosts, one, other):
        epochs = [await _alone(trial, half) for half in halves]
    healed = trial.mark("heal")
    separation.healed()
    together, _ = await trial.group.together(PATIENCE, also=epoch_above(max(epochs)))
    separation.mended()
    trial.measured.append(together - healed)
    await trial.group.stay_together(AFTERMATH)


async def _alone(trial: Trial, half: Group) -> int:
    """Wait until a half is a group of its own, and perhaps roll its key; return its epoch."""
    _, statuses = await half.together(PATIENCE)
    (master,) = half.of(statuses, "master")
    epoch = max(map(epoch_of, statuses.values()))
    if trial.random.random() < 0.5:
        trial.mark(f"rekey of {master.name}'s half")
        await master.call("Rekey")
        await half.together(PATIENCE, also=epoch_above(epoch))
        epoch += 1
    await half.stay_together(AFTERMATH)
    return epoch
