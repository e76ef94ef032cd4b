"""A daemon is ended, in turn with SIGKILL and SIGTERM, and started again at once with its sockets and its stored
descriptors, as systemd does it. Measured: from the signal until all are one group again.

The key must be the same before and after: a daemon that gets back its state needs no new key.
"""

import signal

from tests.lab.group import Failed, key_of
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Restart a daemon that is chosen at random, `trial.repeats` times."""
    before = await trial.begin()
    for repeat in range(trial.repeats):
        daemon = trial.random.choice(trial.group.daemons)
        number = signal.SIGKILL if (trial.number + repeat) % 2 else signal.SIGTERM
        trial.cause(f"{number.name} {daemon.name}", before)
        daemon.signal(number)
        await daemon.ended()
        daemon.start()
        after = await trial.converge(trial.group)
        keys = {key_of(status) for status in (*before.values(), *after.values()) if status is not None}
        if len(keys) != 1:
            raise Failed(f"the key has changed: {keys}")
        if repeat + 1 < trial.repeats:
            before = await trial.restore()
