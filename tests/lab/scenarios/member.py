"""A client is killed with SIGKILL and started again at once. Measured: from the signal until it is a member again.

This is about the cost for the others: one member leaves and one comes. Master, term and key must stay the same.
"""

import signal

from tests.lab.costs import highest_term
from tests.lab.group import Failed, key_of
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Kill a client that is chosen at random, `trial.repeats` times."""
    before = await trial.begin()
    for repeat in range(1, trial.repeats + 1):
        client = trial.random.choice(trial.group.of(before, "client"))
        trial.cause(f"SIGKILL {client.name}, a client", before)
        client.signal(signal.SIGKILL)
        await client.ended()
        client.start()
        after = await trial.converge(trial.group)
        keys = {key_of(status) for status in (*before.values(), *after.values()) if status is not None}
        if len(keys) != 1 or highest_term(before) != highest_term(after):
            raise Failed(f"a member that restarts has changed the key or the term: {keys}")
        if repeat < trial.repeats:
            before = await trial.restore()
