"""All nodes start at once. Measured: from the start of the first process until all are one group with one key."""

from tests.lab.group import Group
from tests.lab.laboratory import Laboratory
from tests.lab.scenarios.scenario import CALM, PATIENCE


async def run(_laboratory: Laboratory, group: Group) -> float:
    """Do it once."""
    started = group.start()
    together, _ = await group.together(PATIENCE)
    await group.stay_together(CALM)
    return together - started
