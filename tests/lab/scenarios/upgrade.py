"""A group of the last released build is upgraded node by node. Then one node is downgraded, and upgraded again.

Measured: from the end of a daemon until all are one group again. The first run replaces the daemon of the master first,
the second one in the middle, and the third one last; and so on.

The key stays the same, and only the end of a master makes another node master.
"""

import signal

from tests import released
from tests.lab.daemon import Daemon
from tests.lab.group import Failed, Statuses, key_of
from tests.lab.trial import AFTERMATH, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    for daemon in trial.group.daemons:
        daemon.build = trial.laboratory.released
    statuses = before = await trial.begin()
    for daemon in _order(trial, statuses):
        statuses = await _replace(trial, daemon, statuses, upgrade=True)
    daemon = trial.random.choice(trial.group.daemons)
    for upgrade in (False, True):
        statuses = await _replace(trial, daemon, statuses, upgrade=upgrade)
    keys = {key_of(status) for each in (before, statuses) for status in each.values() if status is not None}
    if len(keys) != 1:
        raise Failed(f"the key has changed: {keys}")


def _order(trial: Trial, statuses: Statuses) -> list[Daemon]:
    """Return the daemons in the order of their upgrade, with the present master at the place of this run."""
    (master,) = trial.group.of(statuses, "master")
    others = trial.others(master).daemons
    trial.random.shuffle(others)
    place = (0, len(others) // 2, len(others))[(trial.number - 1) % 3]
    return [*others[:place], master, *others[place:]]


async def _replace(trial: Trial, daemon: Daemon, before: Statuses, *, upgrade: bool) -> Statuses:
    """Restart a daemon with another build, as apt does. Return the statuses afterwards."""
    is_master = daemon in trial.group.of(before, "master")
    daemon.build = None if upgrade else trial.laboratory.released
    ended = trial.mark(f"{'upgrade' if upgrade else 'downgrade'} {daemon.name}{', the master' if is_master else ''}")
    daemon.signal(signal.SIGTERM)
    await daemon.ended()
    daemon.start()
    together, _ = await trial.group.together(trial.patience)
    trial.measured.append(together - ended)
    await trial.group.stay_together(AFTERMATH)
    _, after = await trial.group.together(trial.patience)
    shown = {name: status["node"]["version"] for name, status in after.items() if status is not None}
    if (shown[daemon.name] == released.VERSION) == upgrade:
        raise Failed(f"{daemon.name} runs another build than it should: {shown}")
    elections = _term(after) - _term(before)
    if elections != is_master:
        raise Failed(f"{elections} elections while {daemon.name} was replaced, not {int(is_master)}")
    return after


def _term(statuses: Statuses) -> int:
    return max(int(status["term"]) for status in statuses.values() if status is not None)
