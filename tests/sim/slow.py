"""A run of a large group of slow devices: it settles, one thing happens to it, and it is whole again in time.

The group forms while work costs nothing, because its formation is not what is checked. Then each piece of work costs
time (`SPEEDS`): the same at all nodes, or in the seeds that are MIXED less at some. Nothing happens for a while. Then
comes the trouble of the seed: see `Trouble`. All messages, keys and datagrams are those of the other kinds. Each node
has two addresses, as with IPv4 and IPv6, and both lead to it.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial

from pskkey.core.events import StopRequested
from tests.sim.host import Host
from tests.sim.invariants import Calm, Watch, check_converged, check_keys_settled
from tests.sim.kinds import KINDS, SLOW_EVERY
from tests.sim.processor import Costs
from tests.sim.slow_checks import Succession
from tests.sim.tables import check_tables
from tests.sim.traffic import Traffic
from tests.sim.world import World

SIZE, LARGE = 100, 250

LARGE_EVERY = 8
"""One slow seed in this number of them has a large group."""

SPEEDS = (
    Costs(handshake=0.05, packet=0.001, event=0.0002, kibibyte=0.0001),
    Costs(handshake=0.02, packet=0.0005, event=0.0001, kibibyte=0.00005),
    Costs(handshake=0.01, packet=0.0002, event=0.00004, kibibyte=0.00002),
    Costs(handshake=0.005, packet=0.0001, event=0.00002, kibibyte=0.00001),
)
"""From a small processor to a tenth of that. A server core needs a fifth of the last one or less."""

MIXED = 1 / 3
"""The share of the seeds with nodes of several speeds. There, handshakes take turns with other work, as they do in the
daemon. In the other seeds they do not, which is harder.
"""

LIVENESS = 0.1
"""Seconds that one packet of each node may cost a master. If it were more, the heartbeats alone would keep it busy."""

SLOW = next(kind for kind in KINDS if kind.is_slow)

FORMS_WITHIN, PACE = 8.0, 0.04
"""Seconds in which a group forms: for any size, and more for each node, which prepares the loss of its master."""

QUIET = 3.0
"""Seconds before the trouble in which slow nodes have nothing to do but their heartbeats."""


class Trouble(StrEnum):
    """The one thing that happens to a group."""

    KILL = "the master is killed"
    STOP = "the master is stopped"
    SPLIT = "the network is split for 5 s"
    RESTARTS = "a third of the daemons restart within a second"
    POWER = "all devices lose their power and boot within two seconds"


TROUBLES = {Trouble.KILL: 3, Trouble.STOP: 2, Trouble.SPLIT: 1, Trouble.RESTARTS: 2, Trouble.POWER: 2}
"""How often each comes, in 10 runs."""


class SlowRun:
    """The world of one seed, from its construction to the last check."""

    def __init__(self, seed: int, nodes: int | None = None, trouble: Trouble | None = None) -> None:
        self.world = world = World(seed)
        rng = world.random
        self.kind, self.is_varied = SLOW, False
        self.size = nodes or (LARGE if seed // SLOW_EVERY % LARGE_EVERY == LARGE_EVERY // 2 else SIZE)
        self.trouble = trouble or rng.choices(list(TROUBLES), list(TROUBLES.values()))[0]
        self.costs = rng.choice([one for one in SPEEDS if self.size * one.packet <= LIVENESS])
        """The costs of the slowest nodes, from which the bounds follow."""
        world.conditions.delay = (0.0003, rng.choice((0.002, 0.01)))
        all_alike = rng.random() < 0.5
        for number in range(self.size):
            host = world.add(
                priority=100 if all_alike else rng.choice((50, 100, 100, 200)),
                eligible=rng.random() < 0.9,
                costs=Costs(),
            )
            host.member = replace(host.member, addresses=(*host.member.addresses, f"fd00::{number + 1:x}"))
            host.clock_ahead = rng.uniform(0.0, 100_000.0)
            host.clock_rate = 1.0 + rng.uniform(-2e-4, 2e-4)
        self.traffic = Traffic(world)
        Watch(world)
        self.calm = Calm(world)

    def go(self) -> None:
        """Run to the end. Raises Broken."""
        world, rng = self.world, self.world.random
        for host in world.hosts:
            world.at(rng.uniform(0.0, 3.0), partial(world.start, host))
        world.run_until(FORMS_WITHIN + PACE * self.size)
        self._check()
        speeds = [self.costs]
        if rng.random() < MIXED:
            speeds = [replace(one, handshakes_take_turns=True) for one in SPEEDS[SPEEDS.index(self.costs) :]]
        for host in world.hosts:
            assert host.processor is not None
            host.processor.costs = rng.choice(speeds)
        world.run_until(world.now + QUIET)
        self._check()
        master = next(h for h in world.hosts if world.master_of(h) is h)
        world.note(master, f"is master of {self.size} nodes when {self.trouble}; the slowest: {self.costs}")
        if self.trouble in (Trouble.KILL, Trouble.STOP):
            self._lose_master(master)
        else:
            self._disturb()
        self.traffic.check_flows()
        check_tables(world, self.traffic.managers.started, rng.sample(world.hosts, 5))

    def _lose_master(self, master: Host) -> None:
        world = self.world
        succession = Succession(world, self.costs)
        if self.trouble is Trouble.KILL:
            world.crash(master)
        else:
            world.handle(master, StopRequested())
        world.run_until(world.now + world.bounds.succeeds_within(self.size, self.costs))
        succession.check(self._check)

    def _disturb(self) -> None:
        world = self.world
        ends = world.now + self._cause_trouble(world.hosts)
        world.run_until(ends + world.bounds.converges_slowly_within(self.size, self.costs))
        self._check()
        world.run_until(world.now + world.bounds.keys_settle_within)
        self._check()
        check_keys_settled(world)

    def _cause_trouble(self, hosts: list[Host]) -> float:
        """Begin the trouble of this run. Return the seconds until it is over."""
        world, rng = self.world, self.world.random
        if self.trouble is Trouble.SPLIT:
            side = rng.sample(hosts, self.size // 2)
            world.reach.split(side)
            world.at(world.now + 5.0, world.reach.heal)
            return 5.0
        if self.trouble is Trouble.RESTARTS:
            for host in rng.sample(hosts, self.size // 3):
                self._restart(host, world.crash, rng.uniform(0.0, 0.7), rng.uniform(0.1, 0.3))
            return 1.0
        for host in hosts:
            self._restart(host, world.power_off, 0.0, rng.uniform(0.1, 2.0))
        return 2.0

    def _restart(self, host: Host, end: Callable[[Host], None], after: float, pause: float) -> None:
        world = self.world
        world.at(world.now + after, partial(end, host))
        world.at(world.now + after + pause, partial(world.start, host))

    def _check(self) -> None:
        managers = self.traffic.managers.on
        senders = {h for h, m in managers.items() if any(one.will_send for one in m)}
        check_converged(self.world, senders=senders, keys_settled=False)
