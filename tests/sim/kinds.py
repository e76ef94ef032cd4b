"""The kinds of runs: what is unusual about a group before anything goes wrong."""

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
    """A kind of run. `durations` in seconds until everything is mended; `weight` says how often it is drawn."""

    name: str
    weight: int
    durations: tuple[float, ...] = (8.0, 12.0, 15.0)
    has_little_room: bool = False
    """The group has a place less than there are nodes, or two."""
    has_twins: bool = False
    """Two nodes have one id; one of them goes for good when everything is mended."""
    stranger: Callable[[World, Traffic, float], Host] | None = None
    """Lets a program take part that is not ours."""
    talks_sense: bool = True


def veteran(world: World, _traffic: Traffic, end: float) -> Host:
    """Let the epochs begin shortly before their end, and let the key roll a few times more than it would."""
    host = world.add()
    world.at(1.0, partial(world.let_in, host, Veteran(lambda: host.member, (30_000, 60_000, MAX_EPOCH - 2))))
    for n in range(1, 7):
        world.at(4.0 + (end - 4.0) * n / 7, partial(_roll, world))
    return host


def babbler(world: World, traffic: Traffic, _end: float) -> Host:
    """Let a program that holds our PSK talk nonsense."""
    traffic.strict = False
    host = world.add()

    def fresh_key() -> Key:
        key = world.fresh_key()
        traffic.foreign.add(key.fingerprint)
        return key

    program = Babbler(lambda: host.member, world.random, fresh_key)
    world.at(world.random.uniform(0.0, 4.0), partial(world.let_in, host, program))
    return host


def recorder(world: World, _traffic: Traffic, end: float) -> Host:
    """Let a stranger send recorded adverts again, also those of masters that have been switched off since."""
    host = world.add()
    rng = world.random
    for n in range(1, 4):
        gone = Advert("sim", f"{n:032x}", "gone", 255, True, Role.MASTER, 50 * n, 9, (f"10.98.0.{n}",), 11111)
        world.adverts.record(replace(gone, challenge="x1", answers=("y1",)))

    def replay() -> None:
        world.adverts.replay(rng.choice(world.hosts))
        if world.now < end:
            world.at(world.now + rng.uniform(0.01, 0.2), replay)

    world.at(0.0, replay)
    return host


def _roll(world: World) -> None:
    for host in world.hosts:
        if host.node is not None and host.node.view().role is Role.MASTER:
            world.handle(host, RekeyRequested(KeyNewReason.OPERATOR))


KINDS: tuple[Kind, ...] = (
    Kind("ordinary", 66),
    Kind("long", 3, durations=(50.0,)),
    Kind("full", 6, has_little_room=True),
    Kind("twins", 5, has_twins=True),
    Kind("wrap", 6, stranger=veteran),
    Kind("recorder", 8, stranger=recorder),
    Kind("babbler", 6, stranger=babbler, talks_sense=False),
)
