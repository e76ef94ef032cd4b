"""A daemon is ended, in turn with SIGKILL and SIGTERM, and started again at once with its sockets and its stored
descriptors, as systemd does it. Measured: from the signal until all are one group again.

The key must be the same before and after: a daemon that gets back its state needs no new key.
"""

import signal

from tests.lab.group import Failed, key_of
from tests.lab.trial import AFTERMATH, PATIENCE, Trial


async def run(trial: Trial) -> None:
    """Run the scenario once, with a daemon chosen at random."""
    before = await trial.begin()
    daemon = trial.random.choice(trial.group.daemons)
    number = signal.SIGKILL if trial.number % 2 else signal.SIGTERM
    ended = trial.mark(f"{number.name} {daemon.name}")
    daemon.signal(number)
    await daemon.ended()
    daemon.start()
    together, _ = await trial.group.together(PATIENCE)
    trial.measured.append(together - ended)
    await trial.group.stay_together(AFTERMATH)
    _, after = await trial.group.together(PATIENCE)
    keys = {key_of(status) for status in (*before.values(), *after.values()) if status is not None}
    if len(keys) != 1:
        raise Failed(f"the key has changed: {keys}")
