"""The runs of slow nodes: a stampede is visible, each check finds its fault, and enough seeds are large."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from pskkey.core.actions import Action, Connect
from pskkey.core.events import Direction, Session
from tests.sim.bounds import Bounds
from tests.sim.host import Broken, Host
from tests.sim.invariants import check_converged
from tests.sim.kinds import is_slow_seed
from tests.sim.processor import Costs
from tests.sim.slow import LARGE, SIZE, SPEEDS, SlowRun, Trouble
from tests.sim.slow_checks import MOST_PACKETS, Succession
from tests.sim.traffic import Traffic
from tests.sim.world import World

FAST = SPEEDS[-1]


def settled(size: int) -> World:
    """Return a world whose `size` nodes have become one group, and whose work costs time from now on."""
    world = World(1)
    Traffic(world, calm=True)
    for _ in range(size):
        world.start(world.add(costs=Costs()))
    world.run_until(6.0)
    check_converged(world)
    for host in world.hosts:
        assert host.processor is not None
        host.processor.costs = FAST
    return world


def master(world: World) -> Host:
    return next(host for host in world.hosts if world.master_of(host) is host)


def member(world: World) -> Host:
    """Return a member that is neither the master nor a successor of it soon."""
    node = master(world).node
    assert node is not None
    group = node.group()
    assert group is not None
    return next(host for host in world.hosts if host.member.id == group.succession[-1])


def check(world: World, succession: Succession) -> None:
    succession.check(lambda: check_converged(world))


def test_successor_that_all_join_at_once_pays_for_handshakes_that_have_been_given_up() -> None:
    world = settled(30)
    server = master(world)
    assert server.processor is not None
    server.processor.costs = replace(FAST, handshake=0.05)
    for client in world.hosts:
        if client is not server:
            address = server.member.addresses
            connect = Connect(Session(Direction.OUTBOUND, 900), server.member.id, address, 11111, timeout=0.5)
            world.streams.connect(client, connect)
    before = world.streams.dials.handshakes[server]
    world.run_until(world.now + 2.0)
    dials = world.streams.dials
    assert dials.handshakes[server] - before == 29
    assert 18 <= dials.abandoned[server] <= 21
    assert dials.abandoned.total() == dials.abandoned[server]


def test_small_group_replaces_its_master_within_the_guarantees() -> None:
    for trouble in (Trouble.KILL, Trouble.STOP):
        run = SlowRun(1, 5, trouble)
        run.costs = FAST
        run.go()


def test_failover_costs_each_member_one_handshake_with_the_next_successor() -> None:
    """Each member tried the one first that it had known for longest: 2.4 handshakes in this group, and more later."""
    world = World(7)
    Traffic(world, calm=True)
    for _ in range(30):
        world.at(world.random.uniform(0.0, 3.0), partial(world.start, world.add()))
    world.run_until(15.0)
    for _ in range(3):
        lost = master(world)
        connects: Counter[str] = Counter()

        def note(host: Host, action: Action, lost: Host = lost, connects: Counter[str] = connects) -> None:
            if isinstance(action, Connect) and action.peer != lost.member.id:
                connects[host.name] += 1

        world.actions.append(note)
        world.crash(lost)
        world.run_until(world.now + 10.0)
        world.actions.remove(note)
        assert len(connects) >= 30 - 3 - 3, "members have no standby session"
        assert set(connects.values()) == {1}


def test_group_that_is_not_whole_in_time_is_found() -> None:
    world = settled(5)
    succession = Succession(world, FAST)
    world.crash(master(world))
    with pytest.raises(Broken, match=r"^G25: 0\.00 s"):
        check(world, succession)


def test_second_new_term_is_found() -> None:
    world = settled(5)
    succession = Succession(world, FAST)
    for _ in range(2):
        world.crash(master(world))
        world.run_until(world.now + 1.0)
    with pytest.raises(Broken, match=r"^G26: n\d, n\d became master, the term was 1, and the terms are \[3\]"):
        check(world, succession)


def test_two_new_masters_of_one_term_are_found() -> None:
    world = settled(6)
    succession = Succession(world, FAST)
    lost = master(world)
    others = [host for host in world.hosts if host is not lost]
    world.crash(lost)
    world.reach.split(others[:2])
    world.run_until(world.now + 8.0)
    with pytest.raises(Broken, match=r"^G26: n\d, n\d became master, the term was 1, and the terms are \[2\]"):
        succession.check(lambda: None)


def test_abandoned_handshake_is_found() -> None:
    world = settled(5)
    succession = Succession(world, FAST)
    client = member(world)
    world.crash(master(world))
    world.run_until(world.now + 1.0)
    server = master(world)
    assert server.processor is not None
    server.processor.add(0.4)
    session = Session(Direction.OUTBOUND, 900)
    world.streams.connect(client, Connect(session, server.member.id, server.member.addresses, 11111, 0.2))
    world.run_until(world.now + 1.0)
    with pytest.raises(Broken, match=r"^G27: servers have paid for 1 handshakes"):
        check(world, succession)


def test_packets_that_flood_a_member_are_found() -> None:
    world = settled(5)
    succession = Succession(world, FAST)
    flooded = member(world)
    world.crash(master(world))
    world.run_until(world.now + 1.0)
    check(world, succession)
    assert flooded.processor is not None
    for _ in range(MOST_PACKETS):
        flooded.processor.receive(None)
    with pytest.raises(Broken, match=rf"^G28: {flooded.name} has received"):
        check(world, succession)


def test_time_of_a_succession_grows_with_packets_and_not_with_handshakes() -> None:
    bounds, costs = Bounds(), SPEEDS[0]
    assert bounds.succeeds_within(SIZE, costs) == bounds.succeeds_within(SIZE, replace(costs, handshake=9.0))
    per_node = (bounds.succeeds_within(LARGE, costs) - bounds.succeeds_within(SIZE, costs)) / (LARGE - SIZE)
    assert costs.packet < per_node < costs.handshake


def test_forty_of_ten_thousand_seeds_have_large_groups_of_slow_nodes() -> None:
    slow = [seed for seed in range(10_000) if is_slow_seed(seed)]
    sizes = Counter(SlowRun(seed).size for seed in slow)
    assert sizes == {SIZE: 35, LARGE: 5}
    assert {SlowRun(seed).trouble for seed in slow} == set(Trouble)
