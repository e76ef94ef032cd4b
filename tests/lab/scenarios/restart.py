"""A daemon is ended, in turn with SIGKILL and SIGTERM, and started again at once, as systemd would with its sockets and
its stored descriptors. Measured: from the signal until all are one group again.
"""

import signal

from tests.lab.trial import AFTERMATH, PATIENCE, Trial


async def run(trial: Trial) -> None:
    """Do it once, to any of them."""
    await trial.begin()
    daemon = trial.random.choice(trial.group.daemons)
    number = signal.SIGKILL if trial.number % 2 else signal.SIGTERM
    ended = trial.mark(f"{number.name} {daemon.name}")
    daemon.signal(number)
    await daemon.ended()
    daemon.start()
    together, _ = await trial.group.together(PATIENCE)
    trial.measured.append(together - ended)
    await trial.group.stay_together(AFTERMATH)
