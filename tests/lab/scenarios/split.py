"""The network splits into two partitions, and heals. Measured: from the healing until there is one master with a key of
a new epoch.

Each partition must be one group with a master of its own; it may rekey in that time.
"""

from tests.lab.faults import parted
from tests.lab.group import Group, epoch_above, epoch_of
from tests.lab.trial import AFTERMATH, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once, with random partitions."""
    await trial.begin()
    daemons = trial.random.sample(trial.group.daemons, len(trial.group.daemons))
    partitions = [trial.group.part(daemons[: len(daemons) // 2]), trial.group.part(daemons[len(daemons) // 2 :])]
    separation = trial.separations.begin(*([daemon.name for daemon in partition.daemons] for partition in partitions))
    trial.mark(f"split {' | '.join(' '.join(daemon.name for daemon in partition.daemons) for partition in partitions)}")
    one, other = ([trial.host(daemon) for daemon in partition.daemons] for partition in partitions)
    with parted(trial.laboratory.hosts, one, other):
        epochs = [await _alone(trial, partition) for partition in partitions]
    healed = trial.mark("heal")
    separation.note_healing()
    together, _ = await trial.group.together(trial.patience, also=epoch_above(max(epochs)))
    separation.note_merge()
    trial.measured.append(together - healed)
    await trial.group.stay_together(AFTERMATH)


async def _alone(trial: Trial, partition: Group) -> int:
    """Wait until a partition is a group of its own, and rekey it or not, at random; return its epoch."""
    _, statuses = await partition.together(trial.patience)
    (master,) = partition.of(statuses, "master")
    epoch = max(map(epoch_of, statuses.values()))
    if trial.random.random() < 0.5:
        trial.mark(f"rekey of {master.name}'s partition")
        await master.call("Rekey")
        await partition.together(trial.patience, also=epoch_above(epoch))
        epoch += 1
    await partition.stay_together(AFTERMATH)
    return epoch
