"""A run: a random group with random faults, the same for the same seed."""

import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial

from tests.sim.expiries import Expiries
from tests.sim.faults import Faults
from tests.sim.host import Broken, Host
from tests.sim.invariants import (
    Calm,
    Quiet,
    Watch,
    check_converged,
    check_excluded,
    check_keys_settled,
    check_replaced,
    check_rest_is_whole,
    check_suite,
    keys_of,
)
from tests.sim.kinds import KINDS, Kind, is_slow_seed
from tests.sim.managers import LONGEST_LAG
from tests.sim.operators import MOST_ADDRESSES, Operators
from tests.sim.rotation import RENEWED_WITHIN, Rotation
from tests.sim.slow import SlowRun
from tests.sim.tables import check_tables
from tests.sim.traffic import Traffic
from tests.sim.variation import draw
from tests.sim.versions import Versions
from tests.sim.world import World

CALM = 1.0
"""Seconds without a change after which all packets have arrived."""

SIZES = (5, 5, 5, 6, 6, 7, 8, 8, 9, 10, 11, 12, 14, 16, 20)

ROTATES = 0.5
"""The share of the runs in which the PSK is rotated during the faults. At the end every run rotates it once."""

LARGE_EVERY = 1000
"""One seed in this number of seeds has a large group."""

LARGE = (250, 260)
"""The sizes of a large group. The larger one has more nodes than there are sender ids."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    `error`: the guarantee that did not hold, or the traceback of a defect, or None; `is_varied`: some settings were
    not the defaults; `mute`: how often senders fell mute, by reason; `excused`: how often a datagram need not be
    readable, by reason; `delivered`: how often a real datagram was delivered; `abandoned`: how many handshakes servers
    have paid for and nobody waited for, if handshakes cost time.
    """

    seed: int
    nodes: int
    kind: str
    is_varied: bool
    error: str | None
    transcript: tuple[str, ...]
    mute: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    abandoned: int = 0


class Run:
    """The world of one seed, from its construction to the last check."""

    def __init__(self, seed: int, nodes: int | None, kind: Kind | None, *, always_varied: bool) -> None:
        self.world = world = World(seed)
        rng = world.random
        self.kind = kind or rng.choices(KINDS, [k.weight for k in KINDS])[0]
        self.size = nodes or rng.choice(SIZES)
        if nodes is None and seed % LARGE_EVERY == 0 and seed > 0:
            self.size = rng.choice(LARGE)
        self.variation = draw(seed, always=always_varied)
        self.is_varied = not self.variation.is_default
        self.operators = Operators(world, self.variation)
        world.bounds = replace(world.bounds, nodes=self.size)
        if self.kind.are_alike_inside:
            world.bounds = replace(world.bounds, most_addresses=MOST_ADDRESSES + 1)
        if self.kind.has_versions:
            world.use_versions(Versions(rng))
        if self.kind.has_barriers:
            world.bounds = replace(world.bounds, has_barriers=True)
        world.conditions.delay = (0.0003, rng.choice((0.002, 0.01, 0.05)))
        world.conditions.advert_loss = rng.choice((0.0, 0.1, 0.4))
        world.conditions.advert_twice = world.conditions.advert_late = rng.choice((0.0, 0.3))
        self._populate()
        Watch(world)
        self.calm = Calm(world)
        self.traffic = Traffic(world)
        Expiries(world, self.traffic.managers)
        self.hosts = list(world.hosts)
        if self.kind.has_twins:
            self.traffic.twins = tuple(self.hosts[-2:])
        self.end = rng.choice(self.kind.durations)

    def _populate(self) -> None:
        world, rng = self.world, self.world.random
        all_alike = rng.random() < 0.5
        room = max(2, self.size - rng.choice((1, 2))) if self.kind.has_little_room else 1024
        numbers = rng.sample(range(256), min(self.size, 256)) if rng.random() < 0.1 else []
        for n in range(self.size):
            host = world.add(
                priority=100 if all_alike else rng.choice((50, 100, 100, 200)),
                eligible=rng.random() < 0.9,
                sender_id=numbers[n] if n < len(numbers) else None,
                max_members=room,
                node_id=world.hosts[-1].member.id if self.kind.has_twins and n == self.size - 1 else None,
            )
            host.clock_ahead = rng.uniform(0.0, 100_000.0)
            host.clock_rate = 1.0 + rng.uniform(-2e-4, 2e-4)
            self.operators.configure(host)
            if self.kind.are_alike_inside:
                self.operators.add_inner_networks(host)

    def go(self) -> None:
        """Run to the end. Raises Broken."""
        world, rng, bounds = self.world, self.world.random, self.world.bounds
        at_once = rng.random() < 0.4
        for host in self.hosts:
            world.at(0.0 if at_once else rng.uniform(0, 3), partial(self._start_first, host))
        stranger = self.kind.stranger(world, self.traffic, self.end) if self.kind.stranger else None
        barriers = self.kind.has_barriers
        faults = Faults(
            world, self.traffic.managers, self.hosts, self.end, self.operators.faults, with_barriers=barriers
        )
        rotation = Rotation(world)
        if rng.random() < ROTATES:
            rotation.rotate_repeatedly(self.end)
        when = rng.expovariate(0.7)
        while when < self.end:
            world.at(when, faults.cause_fault)
            when += rng.expovariate(0.7)
        world.run_until(self.end)
        if stranger is not None:
            world.power_off(stranger)
        faults.mend(start_again=lambda _host: rng.random() < 0.5)
        world.run_until(self.end + bounds.converges_within + (bounds.twin_delay if self.kind.has_twins else 0.0))
        if self.kind.has_twins:
            twins = self.hosts[-2:]
            self._wait_between_rekeys()
            check_rest_is_whole(world, twins)
            self._crash(rng.choice(twins))
            world.run_until(world.now + bounds.converges_within + bounds.refused_for)
        self._wait_between_rekeys()
        self._check(world, keys_settled=False)
        self.traffic.strict = True
        world.run_until(world.now + bounds.keys_settle_within)
        self._wait_between_rekeys()
        self._check(world)
        check_keys_settled(world)
        check_suite(world)
        if bounds.preempts:
            # A master may hand over to a better candidate that was out of its reach during the faults.
            world.run_until(max(world.now, self.end + bounds.reaches_again_within))
            self._wait_between_rekeys()
        quiet = Quiet(world)
        rotation.rotate_once(0.8, RENEWED_WITHIN)
        world.run_until(world.now + (60.0 if world.random.random() < 0.05 else 6.0))
        self._wait_between_rekeys()
        self._check(world)
        rotation.check_done()
        self.traffic.check_flows()
        check_tables(world, self.traffic.managers.started)
        quiet.is_over = True
        self._lose_master()

    def _wait_between_rekeys(self) -> None:
        """If the master rekeys by itself, wait until the slowest node has installed the last key."""
        world, calm = self.world, self.calm
        if (within := self.variation.rekeys_by_itself_within) is None:
            return
        latest = world.now + 2 * within
        while world.now < latest and (
            world.now - calm.slots_changed_at < LONGEST_LAG + CALM or world.now - calm.changed_at < CALM
        ):
            world.run_until(world.now + CALM / 4)

    def _lose_master(self) -> None:
        """Cut the power of the master, and check that a successor replaces it, and perhaps its key.

        A full group is skipped: there a refused node may take the free place after a hold-down.
        """
        world, bounds = self.world, self.world.bounds
        master = next((h for h in self.hosts if world.master_of(h) is h), None)
        if master is None or self.kind.has_little_room or not bounds.has_equal_timings:
            return
        known = keys_of(master)
        world.power_off(master)
        world.run_until(world.now + bounds.replaces_within)
        check_replaced(world)
        if bounds.fastest.rekey_on_leave:
            lost_at = world.now - bounds.replaces_within
            world.run_until(lost_at + bounds.excludes_within)
            check_excluded(world, known)

    def _crash(self, twin: Host) -> None:
        if twin.node is not None:
            self.world.crash(twin)

    def _check(self, world: World, *, keys_settled: bool = True) -> None:
        managers = self.traffic.managers.on
        senders = {h for h, m in managers.items() if any(one.will_send for one in m)}
        check_converged(world, senders=senders, keys_settled=keys_settled)

    def _start_first(self, host: Host) -> None:
        if host.incarnation == 0:  # no fault has started it before
            self.world.start(host)


def run(seed: int, nodes: int | None = None, kind: Kind | None = None, *, always_varied: bool = False) -> Outcome:
    """Cause random faults in a random group, and return how the run ended."""
    is_slow = kind.is_slow if kind is not None else nodes is None and is_slow_seed(seed)
    one = SlowRun(seed, nodes) if is_slow else Run(seed, nodes, kind, always_varied=always_varied)
    error = None
    try:
        one.go()
    except Broken as broken:
        error = str(broken)
    except Exception:  # noqa: BLE001  # a defect of a node or of the simulator: the other seeds go on
        error = traceback.format_exc()
    traffic = one.traffic
    observed = tuple(one.world.transcript), traffic.mute, traffic.excused, traffic.datagrams.delivered
    abandoned = one.world.streams.dials.abandoned.total()
    return Outcome(seed, one.size, one.kind.name, one.is_varied, error, *observed, abandoned)
