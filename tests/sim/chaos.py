"""A random group with random faults, the same for the same seed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pskkey.core.events import RekeyRequested, SwitchoverRequested
from pskkey.model import KeyNewReason
from tests.sim.host import Conditions, Host
from tests.sim.invariants import (
    CONVERGES_WITHIN,
    KEYS_SETTLE_WITHIN,
    Broken,
    Watch,
    check_converged,
    check_keys_settled,
)
from tests.sim.traffic import Traffic
from tests.sim.world import World


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `error` is None if every invariant held."""

    seed: int
    nodes: int
    error: str | None
    transcript: tuple[str, ...]


class Chaos:
    """Draws faults for one world until the time is over, then mends everything."""

    def __init__(self, world: World, traffic: Traffic, hosts: list[Host], duration: float) -> None:
        self._world = world
        self._traffic = traffic
        self._hosts = hosts
        self._end = world.now + duration
        self._down: set[Host] = set()

    def begin(self) -> None:
        """Schedule the first fault."""
        self._next()

    def _next(self) -> None:
        world = self._world
        when = world.now + world.random.expovariate(0.7)
        if when < self._end:
            world.at(when, self._fault)
        else:
            world.at(self._end, self._mend)

    def _fault(self) -> None:
        rng, world = self._world.random, self._world
        host = rng.choice(self._hosts)
        kinds: tuple[Callable[[Host], None], ...]
        kinds = (self._crash, self._restart, self._pause, self._split, self._isolate, self._one_way, self._half_step)
        kinds += (self._traffic.restart, self._rekey, self._switch_over)
        rng.choice((*kinds, lambda _: world.heal(), lambda _: world.heal()))(host)
        self._next()

    def _crash(self, host: Host) -> None:
        if host.node is not None and not host.paused:
            self._world.crash(host)
            self._down.add(host)

    def _restart(self, host: Host) -> None:
        if host.node is not None and not host.paused:
            self._world.crash(host)
        if host.node is None:
            self._down.discard(host)
            self._world.start(host)

    def _pause(self, host: Host) -> None:
        world = self._world
        if host.node is not None and not host.paused:
            world.pause(host)
            incarnation = host.incarnation
            length = world.random.choice((0.2, 1.0, 2.0, 5.0, 15.0))
            world.at(min(world.now + length, self._end), lambda: self._wake(host, incarnation))

    def _wake(self, host: Host, incarnation: int) -> None:
        if host.incarnation == incarnation and host.paused:
            self._world.wake(host)

    def _split(self, host: Host) -> None:
        others = [h for h in self._hosts if h is not host and self._world.random.random() < 0.5]
        self._world.note(host, f"is split off with {', '.join(h.name for h in others) or 'nobody'}")
        self._world.split([host, *others])

    def _isolate(self, host: Host) -> None:
        self._world.note(host, "is isolated")
        self._world.split([host])

    def _one_way(self, host: Host) -> None:
        other = self._world.random.choice(self._hosts)
        if other is not host:
            self._world.note(host, f"is no longer heard by {other.name}")
            self._world.sever(host, other)

    def _rekey(self, host: Host) -> None:
        self._world.note(host, "is told to roll the key")
        self._world.handle(host, RekeyRequested(KeyNewReason.OPERATOR))

    def _switch_over(self, host: Host) -> None:
        self._world.note(host, "is told to hand over")
        self._world.handle(host, SwitchoverRequested())

    def _half_step(self, host: Host) -> None:
        """Let the process die in the middle of a step: between two of its actions."""
        if host.node is not None and not host.paused:
            self._world.crash_after[host] = self._world.random.randrange(4)
            self._down.add(host)

    def _mend(self) -> None:
        world = self._world
        world.note(self._hosts[0], "--- everything is mended ---")
        world.heal()
        world.crash_after.clear()
        world.conditions.advert_loss = 0.0
        for host in self._hosts:
            if host.paused:
                world.wake(host)
            if host.node is None and world.random.random() < 0.5:
                world.start(host)


def _start_first(world: World, host: Host) -> None:
    if host.incarnation == 0:  # no fault has started it before
        world.start(host)


def run(seed: int, nodes: int | None = None, duration: float = 15.0) -> Outcome:
    """Put a random group through random faults, and say what did not hold."""
    world = World(seed)
    rng = world.random
    size = nodes or rng.choice((3, 3, 4, 5, 5, 6, 8, 10))
    slow = rng.choice((0.002, 0.01, 0.05))
    world.conditions = Conditions((0.0003, slow), rng.choice((0.0, 0.1, 0.4)), rng.choice((0.0, 0.3)))
    all_alike = rng.random() < 0.5
    for _ in range(size):
        priority = 100 if all_alike else rng.choice((50, 100, 100, 200))
        world.add(priority=priority, eligible=rng.random() < 0.9)
    error = None
    try:
        Watch(world)
        at_once = rng.random() < 0.5
        for host in world.hosts:
            world.at(0.0 if at_once else rng.uniform(0, 3), partial(_start_first, world, host))
        Chaos(world, Traffic(world), world.hosts, duration).begin()
        world.run_until(duration + CONVERGES_WITHIN)
        check_converged(world)
        world.run_until(world.now + KEYS_SETTLE_WITHIN)
        check_converged(world)
        check_keys_settled(world)
    except Broken as broken:
        error = str(broken)
    return Outcome(seed, size, error, tuple(world.transcript))
