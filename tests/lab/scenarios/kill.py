"""The master is killed with SIGKILL. Measured: from the signal until all others are one group with a new master.

The key must be the same before and after.
"""

import signal
import time

from tests.lab.group import Failed, Group, key_of
from tests.lab.laboratory import Laboratory
from tests.lab.scenarios.scenario import CALM, PATIENCE


async def run(_laboratory: Laboratory, group: Group) -> float:
    """Do it once."""
    group.start()
    _, before = await group.together(PATIENCE)
    await group.stay_together(CALM)
    (master,) = group.of(before, "master")
    killed = time.monotonic()
    master.signal(signal.SIGKILL)
    survivors = Group(daemon for daemon in group.daemons if daemon is not master)
    together, after = await survivors.together(PATIENCE)
    await survivors.stay_together(CALM)
    await master.ended()
    keys = {key_of(status) for status in (*before.values(), *after.values()) if status is not None}
    if len(keys) != 1:
        raise Failed(f"the key has changed: {keys}")
    return together - killed
