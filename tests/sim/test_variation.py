"""A run varies only configurable settings, in the right share of the seeds, and repeats."""

from dataclasses import asdict, replace

import pytest

from pskkey.config.schema import ElectionTable, KeyTable
from pskkey.core.events import SettingsChanged, SwitchoverRequested
from pskkey.core.settings import Timing
from pskkey.model import Role, Suite
from tests.sim.bounds import Bounds
from tests.sim.chaos import run
from tests.sim.host import Broken, Host
from tests.sim.invariants import (
    EARLIEST_REKEY,
    Calm,
    check_converged,
    check_excluded,
    check_keys_settled,
    check_suite,
    keys_of,
)
from tests.sim.operators import settings_changed
from tests.sim.traffic import Traffic
from tests.sim.variation import DEFAULT_SHARE, HASTY_SHARE, Variation, draw
from tests.sim.world import World

SEEDS = range(2000)


def test_default_share_of_seeds_keeps_the_defaults() -> None:
    share = sum(draw(seed).is_default for seed in SEEDS) / len(SEEDS)
    assert share == pytest.approx(DEFAULT_SHARE, abs=0.05)
    assert draw(SEEDS[0], always=True) != Variation()


def test_varied_settings_are_allowed_by_the_configuration() -> None:
    timings = {timing for seed in SEEDS for timing in draw(seed, always=True).timings}
    for timing in timings:
        set_by_operators = asdict(timing)
        for table in (ElectionTable, KeyTable):
            table.model_validate(
                {name: value for name, value in set_by_operators.items() if name in table.model_fields}
            )
    may_vary = {*ElectionTable.model_fields, *KeyTable.model_fields, "departure_spacing"}
    fixed = [name for name in asdict(Timing()) if name not in may_vary]
    assert {tuple(asdict(timing)[name] for name in fixed) for timing in timings} == {
        tuple(asdict(Timing())[name] for name in fixed)
    }
    assert len(timings) > len(SEEDS) / 2


def test_dead_after_covers_two_heartbeats_of_its_own_node_and_not_those_of_every_other_one() -> None:
    drawn = [draw(seed, always=True).timings for seed in range(300)]
    assert all(2 * one.heartbeat_interval <= one.dead_after for timings in drawn for one in timings)
    assert any(
        2 * one.heartbeat_interval > other.dead_after for timings in drawn for one in timings for other in timings
    )


def test_most_variations_must_keep_every_datagram() -> None:
    keeping = sum(draw(seed, always=True).bounds.keeps_datagrams for seed in SEEDS) / len(SEEDS)
    assert 1 - HASTY_SHARE < keeping < 1


def test_bounds_of_the_defaults_are_those_in_architecture() -> None:
    bounds = Bounds()
    assert bounds.converges_within == pytest.approx(12.0)
    assert bounds.twin_delay == 5.0
    assert bounds.refused_for == 62.0
    assert bounds.replaces_within == pytest.approx(2.5)
    assert bounds.excludes_within == pytest.approx(71.9)
    assert bounds.keys_settle_within == 12.0
    assert bounds.reads_within == 9.5
    assert bounds.keeps_datagrams


def test_slowest_node_sets_the_bounds_and_keys_must_last_at_the_fastest() -> None:
    slow, fast = Timing(dead_after=5.0, heartbeat_interval=2.0), Timing(activation_deadline=2.0)
    assert Bounds.of([slow]).converges_within > Bounds.of([Timing()]).converges_within
    assert Bounds.of([slow, Timing()]).converges_within > Bounds.of([slow]).converges_within
    assert Bounds.of([Timing()], preempts=True).converges_within > Bounds().converges_within
    assert not Bounds.of([slow]).keeps_datagrams
    assert not Bounds.of([fast, Timing()]).keeps_datagrams
    assert not Bounds.of([Timing(retire_after=6.0)]).keeps_datagrams


def test_varied_run_keeps_guarantees_and_repeats() -> None:
    seed = next(seed for seed in SEEDS if draw(seed).is_default)
    first, again = (run(seed, nodes=5, always_varied=True) for _ in range(2))
    assert first.error is None
    assert first.is_varied
    assert first.transcript == again.transcript
    assert not run(seed, nodes=5).is_varied


# --- the world of a varied run --------------------------------------------------------------------------------------


def group(size: int = 3, timing: Timing | None = None) -> World:
    world = World(1)
    Traffic(world, calm=True)
    for _ in range(size):
        world.add(timing=timing)
    return world


def master(world: World) -> Host:
    return next(h for h in world.hosts if h.node is not None and h.node.view().role is Role.MASTER)


def change(world: World, host: Host) -> None:
    event = settings_changed(host)
    assert isinstance(event, SettingsChanged)
    world.handle(host, event)
    world.run_until(world.now + 5.0)


def start(world: World) -> None:
    for host in world.hosts:
        world.start(host)
    world.run_until(world.now + 5.0)


def test_node_is_joined_at_its_only_reachable_address() -> None:
    world = group()
    for host in world.hosts:
        first, second, third = (f"fd00::{host.name[1:]}:{n}" for n in range(3))
        host.member = replace(host.member, addresses=(first, second, third))
        host.unreachable = {first, second}
    start(world)
    check_converged(world)


def test_node_without_reachable_address_is_not_joined() -> None:
    world = group()
    for host in world.hosts:
        host.unreachable = set(host.member.addresses)
    start(world)
    world.run_until(world.bounds.converges_within + 2.0)  # a node may try another node that has become master meanwhile
    assert all(h.node is not None and h.node.view().role is Role.MASTER for h in world.hosts)


def test_group_uses_the_suite_of_its_master() -> None:
    world = group()
    for host in world.hosts:
        host.suite = Suite.PSK_CHACHA20_POLY1305
    start(world)
    check_suite(world)
    one = master(world)
    one.suite = Suite.WDM_WITH_NULL_SHA256
    change(world, one)
    check_suite(world)
    check_converged(world)
    used = [h.node.view().current for h in world.hosts if h.node is not None]
    assert [key and key.key.suite for key in used] == [one.suite] * len(world.hosts)


def test_better_candidate_takes_over_when_preemption_is_turned_on() -> None:
    world = group()
    start(world)
    one = master(world)
    other = next(h for h in world.hosts if h is not one)
    other.member = replace(other.member, priority=200)
    change(world, other)
    assert master(world) is one
    one.preempt = True
    change(world, one)
    assert master(world) is other


def test_group_whose_masters_change_all_the_time_rekeys_once_in_each_interval() -> None:
    """Each master leaves after a few seconds, and its device boots without a key and an age. No node sends."""
    interval, days = 60.0, 10
    world = World(1)
    for _ in range(5):
        world.add(timing=Timing(rekey_interval=interval))
    start(world)
    made = len(world.keys)
    end = world.now + days * interval
    while world.now < end:
        one = master(world)
        world.power_off(one)
        world.run_until(world.now + 4.0)
        world.start(one)
        world.run_until(world.now + 4.0)
    assert days - 1 <= len(world.keys) - made <= days / EARLIEST_REKEY + 1


def test_node_that_has_left_reads_nothing_after_the_rekey() -> None:
    world = group(4, timing=Timing(rekey_on_leave=True))
    start(world)
    gone = next(host for host in world.hosts if host is not master(world))
    known = keys_of(gone)
    world.run_until(60.0)
    world.power_off(gone)
    world.run_until(world.now + 5.0)
    with pytest.raises(Broken, match="which a node that has left knows"):
        check_excluded(world, known)
    world.run_until(world.now + 2.0)
    check_excluded(world, known)
    check_converged(world)


def test_node_that_has_left_reads_nothing_though_all_daemons_restart_before_the_rekey() -> None:
    world, gone, known = group_that_a_node_has_left(4)
    for host in world.hosts:
        if host is not gone:
            world.crash(host)
            world.run_until(world.now + 0.3)
            world.start(host)
            world.run_until(world.now + 3.0)
    check_later(world, known)


def test_node_that_has_left_reads_nothing_though_a_newcomer_is_master_before_the_rekey() -> None:
    world, _, known = group_that_a_node_has_left(3)
    newcomer = world.add(timing=Timing(rekey_on_leave=True))
    world.start(newcomer)
    world.run_until(world.now + 3.0)
    world.handle(master(world), SwitchoverRequested(newcomer.member.id))
    world.run_until(world.now + 3.0)
    assert master(world) is newcomer
    check_later(world, known)


def group_that_a_node_has_left(size: int) -> tuple[World, Host, frozenset[str]]:
    """Return a group with a young key, a member that has left it, and the fingerprints of the keys that it knows."""
    world = group(size, timing=Timing(rekey_on_leave=True))
    start(world)
    gone = next(host for host in world.hosts if host is not master(world))
    known = keys_of(gone)
    world.power_off(gone)
    world.run_until(world.now + 6.0)
    return world, gone, known


def check_later(world: World, known: frozenset[str]) -> None:
    """Check that the nodes send with one of the `known` keys now, and with another one after `departure_spacing`."""
    with pytest.raises(Broken, match="which a node that has left knows"):
        check_excluded(world, known)
    world.run_until(world.now + Timing().departure_spacing + 10.0)
    check_excluded(world, known)
    check_converged(world)


def test_group_that_rekeys_periodically_is_calm_in_between() -> None:
    world = group(timing=Timing(rekey_interval=12.0))
    calm = Calm(world)
    start(world)
    slots = set()
    for _ in range(80):
        world.run_until(world.now + 0.5)
        slots.add(calm.slots_changed_at)
        if world.now - calm.changed_at > 1.0:
            check_keys_settled(world)
    assert len(slots) == 1 + 3
