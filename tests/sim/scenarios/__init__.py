"""The most important scenarios, each kept beside this file as a readable transcript.

A line has virtual milliseconds, a node, and an event of it: its role, the keys that it holds (`K2*` is the key to send
with), the messages that change something, and the faults and requests. `tests/sim/run --rewrite-transcripts` writes
them again; a test compares.
"""

from collections.abc import Callable
from pathlib import Path

from pskkey.core.events import RekeyRequested
from pskkey.model import KeyNewReason, Role
from tests.sim.host import Conditions, Host
from tests.sim.invariants import Watch, check_converged
from tests.sim.scenarios.storyteller import Storyteller
from tests.sim.traffic import Traffic
from tests.sim.world import World


class Stage:
    """A converged group of `size` nodes, and its transcript from then on."""

    def __init__(self, size: int) -> None:
        self.world = World(1, Conditions(delay=(0.001, 0.001)))
        Watch(self.world)
        self.traffic = Traffic(self.world, calm=True)
        self.story = Storyteller(self.world, self.traffic.managers)
        for _ in range(size):
            self.world.start(self.world.add(priority=100 - len(self.world.hosts)))
        self.world.run_until(5.0)
        check_converged(self.world)
        self.story.begin()

    def master(self) -> Host:
        """Return the master."""
        return next(h for h in self.world.hosts if h.node and h.node.view().role is Role.MASTER)

    def wait(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass."""
        self.world.run_until(self.world.now + seconds)

    def rekey(self) -> None:
        """Let an operator ask the master for a new key."""
        self.story.add(self.master(), "is asked for a new key")
        self.world.handle(self.master(), RekeyRequested(KeyNewReason.OPERATOR))


def split_and_merge(stage: Stage) -> None:
    """Two partitions, each with a key of its own, merge."""
    hosts = stage.world.hosts
    stage.story.add(hosts[2], "and n4 are cut off from n1 and n2")
    stage.world.reach.split(hosts[2:])
    stage.wait(4.0)
    stage.rekey()
    stage.wait(1.5)
    stage.story.add(hosts[2], "and n4 are connected again")
    stage.world.reach.heal()
    stage.wait(20.0)


def master_dies_during_rekey(stage: Stage) -> None:
    """The master has distributed a new key, and dies before it activates the key."""
    stage.rekey()
    stage.wait(0.0025)
    stage.story.add(stage.master(), "dies")
    stage.world.power_off(stage.master())
    stage.wait(20.0)


def joiner_during_rekey(stage: Stage) -> None:
    """A node joins between the distribution of a key and its activation."""
    newcomer = stage.world.add(priority=50)
    stage.story.add(newcomer, "starts")
    stage.world.start(newcomer)
    stage.wait(0.004)
    stage.rekey()
    stage.wait(20.0)


def paused_master_wakes(stage: Stage) -> None:
    """A master is paused for half a minute. Meanwhile the others elect a master and rekey."""
    sleeper = stage.master()
    stage.story.add(sleeper, "is paused")
    stage.world.pause(sleeper)
    stage.wait(10.0)
    successor = next(h for h in stage.world.hosts if h is not sleeper and stage.world.master_of(h) is h)
    stage.story.add(successor, "is asked for a new key")
    stage.world.handle(successor, RekeyRequested(KeyNewReason.OPERATOR))
    stage.wait(20.0)
    stage.story.add(sleeper, "wakes")
    stage.world.wake(sleeper)
    stage.wait(15.0)


def sender_restarts(stage: Stage) -> None:
    """A session manager is replaced. The new process may send only when the group has another key."""
    stage.story.add(stage.world.hosts[2], "has its session manager replaced")
    stage.traffic.managers.replace(stage.world.hosts[2])
    stage.wait(15.0)


def daemon_restarts(stage: Stage) -> None:
    """A daemon dies and starts again with its persisted state, while its session manager goes on sending."""
    host = stage.world.hosts[2]
    stage.story.add(host, "dies")
    stage.world.crash(host)
    stage.wait(0.3)
    stage.story.add(host, "starts with its persisted state")
    stage.world.start(host)
    stage.wait(15.0)


SCENARIOS: dict[str, tuple[int, Callable[[Stage], None]]] = {
    "split-and-merge": (4, split_and_merge),
    "master-dies-during-rekey": (4, master_dies_during_rekey),
    "joiner-during-rekey": (3, joiner_during_rekey),
    "paused-master-wakes": (3, paused_master_wakes),
    "sender-restarts": (3, sender_restarts),
    "daemon-restarts": (3, daemon_restarts),
}
"""By name: the number of nodes at the beginning, and the function that disturbs them."""


def transcript_of(name: str) -> Path:
    """Return the path of the transcript of a scenario."""
    return Path(__file__).with_name(f"{name}.txt")


def play(name: str) -> str:
    """Run a scenario, and return its transcript, which ends with a newline."""
    size, disturb = SCENARIOS[name]
    stage = Stage(size)
    disturb(stage)
    check_converged(stage.world)
    stage.traffic.check_flows()
    title = (disturb.__doc__ or "").strip()
    return "\n".join((f"# {title}", *stage.story.lines)) + "\n"
