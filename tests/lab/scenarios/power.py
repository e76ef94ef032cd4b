"""All nodes lose power and boot at once: nothing of the group is left. Measured: from the start of the first process
until all are one group.

`loading_ms`: from the same time until the sockets of the last daemon listen. All processes share this machine's
processors, so loading takes long here, but not on devices. `beyond_loading_ms`: the rest of the measured time.
`longest_wait_ms`: the longest time from a node's own sockets until it was master or client for good. A hold-down, in
which a node does not try another one, is a part of it.
"""

from tests.lab.trial import Trial


async def run(trial: Trial) -> None:
    """Run the scenario once."""
    trial.laboratory.set_speed()
    trial.watch_machine()
    began = trial.cause("power", {})
    trial.group.start()
    await trial.converge(trial.group)
    views = [daemon.view for daemon in trial.group.daemons]
    loaded = [view.loaded_at or began for view in views]
    trial.figures["loading"].append(max(loaded) - began)
    trial.figures["beyond_loading"].append(max(0.0, trial.measured[-1] - (max(loaded) - began)))
    trial.figures["longest_wait"].append(max(view.changed_at - own for view, own in zip(views, loaded, strict=True)))
