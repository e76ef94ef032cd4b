"""A group at rest, for `--seconds`; without traffic there is nothing but heartbeats and mDNS. No time is measured.

Amounts: the share of a core that the master uses, and each client; the bytes that the master sends in a second; its
resident memory.
"""

from tests.lab.costs import resident_bytes
from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    statuses = await trial.begin()
    (master,) = trial.group.of(statuses, "master")
    costs = await trial.measure_rest(trial.seconds)
    for name, cost in costs.items():
        trial.amounts["master_percent" if name == master.name else "client_percent"].append(100 * cost.processor)
    trial.amounts["master_bytes_per_second"].append(costs[master.name].bytes_sent)
    trial.amounts["master_megabytes"].append(resident_bytes(master.pid) / 1e6)
