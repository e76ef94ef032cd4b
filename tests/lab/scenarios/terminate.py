"""The master is ended with SIGTERM. Measured: from the signal until all others are one group with a new master.

The key must be the same before and after.
"""

import signal

from tests.lab.scenarios.kill import end_masters
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """End the master `trial.repeats` times. It is started again before the next time."""
    await end_masters(trial, signal.SIGTERM)
