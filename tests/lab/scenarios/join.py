"""One more node joins a group. Measured: from the start of its process until it has the group's key.

Master and key must stay the same: a newcomer changes nothing.
"""

from tests.lab.group import Failed, Group, key_of
from tests.lab.laboratory import Laboratory
from tests.lab.scenarios.scenario import CALM, PATIENCE


async def run(laboratory: Laboratory, group: Group) -> float:
    """Do it once; which of the nodes comes late is random, so it may be of higher rank than the master."""
    late = laboratory.random.choice(group.daemons)
    early = Group(daemon for daemon in group.daemons if daemon is not late)
    early.start()
    _, before = await early.together(PATIENCE)
    await early.stay_together(CALM)
    late.start()
    together, after = await group.together(PATIENCE)
    for name, status in before.items():
        now = after[name]
        if status is None or now is None or now["term"] != status["term"] or key_of(now) != key_of(status):
            raise Failed(f"the newcomer has changed the term or the key of {name}: {status}, now {now}")
    await group.stay_together(CALM)
    return together - late.started_at
