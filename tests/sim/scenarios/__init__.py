"""The scenarios that matter, each kept beside this file as a transcript that a person can read.

A line is virtual milliseconds, a node, and what happened to it: its role, the keys that it holds (`K2*` is the one to
send with), the messages that change something, and what was done to it. `tests/sim/run --rewrite-transcripts` plays
them anew; a test compares.
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
    """A group of `size` nodes, one of them master, and everybody at ease; the story begins with `tell`."""

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
        """Let the time pass."""
        self.world.run_until(self.world.now + seconds)

    def roll(self) -> None:
        """Let an operator roll the key at the master."""
        self.story.tell(self.master(), "is told to roll the key")
        self.world.handle(self.master(), RekeyRequested(KeyNewReason.OPERATOR))


def split_and_merge(stage: Stage) -> None:
    """Two halves, each with a key of its own, come together again."""
    hosts = stage.world.hosts
    stage.story.tell(hosts[2], "and n4 are cut off from n1 and n2")
    stage.world.reach.split(hosts[2:])
    stage.wait(4.0)
    stage.roll()
    stage.wait(1.5)
    stage.story.tell(hosts[2], "and n4 are connected again")
    stage.world.reach.heal()
    stage.wait(20.0)


def master_dies_during_rekey(stage: Stage) -> None:
    """The new key has been distributed, and its master dies before it was activated."""
    stage.roll()
    stage.wait(0.0025)
    stage.story.tell(stage.master(), "dies")
    stage.world.power_off(stage.master())
    stage.wait(20.0)


def joiner_during_rekey(stage: Stage) -> None:
    """Somebody joins between the distribution of a key and its activation."""
    newcomer = stage.world.add(priority=50)
    stage.story.tell(newcomer, "starts")
    stage.world.start(newcomer)
    stage.wait(0.004)
    stage.roll()
    stage.wait(20.0)


def paused_master_wakes(stage: Stage) -> None:
    """A master is stopped for half a minute, while the others go on and roll the key."""
    sleeper = stage.master()
    stage.story.tell(sleeper, "is stopped")
    stage.world.pause(sleeper)
    stage.wait(10.0)
    successor = next(h for h in stage.world.hosts if h is not sleeper and stage.world.master_of(h) is h)
    stage.story.tell(successor, "is told to roll the key")
    stage.world.handle(successor, RekeyRequested(KeyNewReason.OPERATOR))
    stage.wait(20.0)
    stage.story.tell(sleeper, "goes on")
    stage.world.wake(sleeper)
    stage.wait(15.0)


def sender_restarts(stage: Stage) -> None:
    """A session manager is replaced: the new process may send only when the group has another key."""
    stage.story.tell(stage.world.hosts[2], "has its session manager replaced")
    stage.traffic.managers.replace(stage.world.hosts[2])
    stage.wait(15.0)


def daemon_restarts(stage: Stage) -> None:
    """A daemon dies and starts again with what it knew, while its session manager goes on sending."""
    host = stage.world.hosts[2]
    stage.story.tell(host, "dies")
    stage.world.crash(host)
    stage.wait(0.3)
    stage.story.tell(host, "starts with what it knew")
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
"""By name: how many nodes there are at the beginning, and what is done to them."""


def transcript_of(name: str) -> Path:
    """Return where the transcript of a scenario is kept."""
    return Path(__file__).with_name(f"{name}.txt")


def play(name: str) -> str:
    """Return what happens in a scenario, ending with a newline."""
    size, plot = SCENARIOS[name]
    stage = Stage(size)
    plot(stage)
    check_converged(stage.world)
    stage.traffic.check_flows()
    title = (plot.__doc__ or "").strip()
    return "\n".join((f"# {title}", *stage.story.lines)) + "\n"
