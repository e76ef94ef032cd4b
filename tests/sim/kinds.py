"""The kinds of runs. A kind is what is unusual about a group before any fault."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pskkey.core.events import RekeyRequested
from pskkey.model import MAX_EPOCH, Advert, Key, KeyNewReason, Role
from tests.sim.host import Host
from tests.sim.strangers import Babbler, Veteran
from tests.sim.traffic import Traffic
from tests.sim.world import World


@dataclass(frozen=True)
class Kind:
    """A kind of run. `durations`: choices of the seconds until all faults end; `weight`: how often it is drawn."""

    name: str
    weight: int
    durations: tuple[float, ...] = (8.0, 12.0, 15.0)
    has_little_room: bool = False
    """The group has room for one or two nodes less than there are."""
    are_alike_inside: bool = False
    """The nodes announce addresses of networks inside them first. All machines have the same such networks."""
    has_barriers: bool = False
    """Some ways let adverts pass, and no TCP or only small messages."""
    has_twins: bool = False
    """Two nodes, the twins, have one id. One of them ends for good when all faults have ended."""
    has_versions: bool = False
    """The nodes have two versions, and an operator replaces one by the other whenever a daemon starts."""
    is_slow: bool = False
    """The group is large and its devices are slow. Such a run has a course of its own: see `slow`."""
    stranger: Callable[[World, Traffic, float], Host] | None = None
    """Adds a host with a program that is not ours."""


def veteran(world: World, _traffic: Traffic, end: float) -> Host:
    """Let the group reach the last epochs, so that they wrap, and rekey a few times more.

    A veteran is a member that has been in another group before, with late epochs.
    """
    host = world.add()
    world.at(1.0, partial(world.start_stranger, host, Veteran(lambda: host.member, (30_000, 60_000, MAX_EPOCH - 2))))
    for n in range(1, 7):
        world.at(4.0 + (end - 4.0) * n / 7, partial(_rekey, world))
    return host


def babbler(world: World, traffic: Traffic, _end: float) -> Host:
    """Add a babbler: a program that holds our PSK and sends valid messages that make no sense."""
    traffic.strict = False
    host = world.add()

    def fresh_key() -> Key:
        key = world.fresh_key()
        traffic.foreign.add(key.fingerprint)
        return key

    program = Babbler(lambda: host.member, world.random, fresh_key)
    world.at(world.random.uniform(0.0, 4.0), partial(world.start_stranger, host, program))
    return host


def recorder(world: World, _traffic: Traffic, end: float) -> Host:
    """Add a recorder: a stranger that sends recorded adverts again, also those of masters that are off by now."""
    host = world.add()
    rng = world.random
    for n in range(1, 4):
        advert = Advert("sim", f"{n:032x}", "gone", 255, True, Role.MASTER, 50 * n, 9, (f"10.98.0.{n}",), 11111)
        world.adverts.record(replace(advert, challenge="x1", answers=("y1",)))

    def replay() -> None:
        world.adverts.replay(rng.choice(world.hosts))
        if world.now < end:
            world.at(world.now + rng.uniform(0.01, 0.2), replay)

    world.at(0.0, replay)
    return host


def _rekey(world: World) -> None:
    for host in world.hosts:
        if host.node is not None and host.node.view().role is Role.MASTER:
            world.handle(host, RekeyRequested(KeyNewReason.OPERATOR))


KINDS: tuple[Kind, ...] = (
    Kind("ordinary", 66),
    Kind("long", 3, durations=(50.0,)),
    Kind("full", 6, has_little_room=True),
    Kind("twins", 5, has_twins=True),
    Kind("alike", 8, are_alike_inside=True),
    Kind("barriers", 8, has_barriers=True),
    Kind("versions", 8, has_versions=True),
    Kind("wrap", 6, stranger=veteran),
    Kind("recorder", 8, stranger=recorder),
    Kind("babbler", 6, stranger=babbler),
    Kind("slow", 0, is_slow=True),
)

SLOW_EVERY = 250
"""One seed in this number of seeds has the kind "slow". It is drawn by its number, because its runs are long."""


def is_slow_seed(seed: int) -> bool:
    """Return whether a seed has the kind "slow", unless another kind is asked for."""
    return seed % SLOW_EVERY == SLOW_EVERY // 2
