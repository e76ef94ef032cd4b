"""The processor of a simulated device: it works in order, and handshakes cost both ends, needed or not."""

from functools import partial

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Direction, Session
from pskkey.model import Role
from tests.sim.host import Host
from tests.sim.processor import Costs, Processor
from tests.sim.schedule import Schedule
from tests.sim.world import World

SLOW = Costs(handshake=0.05, packet=0.001, event=0.0002, kibibyte=0.0001)


def processor(costs: Costs = SLOW) -> tuple[Schedule, Processor]:
    schedule = Schedule(1)
    return schedule, Processor(schedule, costs)


def note(schedule: Schedule, done: list[tuple[str, float]], name: str) -> None:
    done.append((name, round(schedule.now, 6)))


def world_of(size: int, costs: Costs) -> World:
    """Return a world of hosts with processors whose daemons run."""
    world = World(1)
    for _ in range(size):
        world.add(costs=costs)
    for host in world.hosts:
        world.start(host)
    return world


def connect(world: World, client: Host, server: Host, timeout: float, number: int = 900) -> None:
    """Let a host connect to another one, beside whatever its node does."""
    session = Session(Direction.OUTBOUND, number)
    world.streams.connect(client, Connect(session, server.member.id, server.member.addresses, 11111, timeout))


def abandoned(world: World) -> dict[str, int]:
    return {host.name: count for host, count in world.streams.dials.abandoned.items()}


def master(world: World) -> Host:
    return next(h for h in world.hosts if h.node is not None and h.node.view().role is Role.MASTER)


def test_work_is_done_in_order_and_each_piece_takes_its_time() -> None:
    schedule, one = processor()
    done: list[tuple[str, float]] = []
    for name, cost in (("a", 0.5), ("b", 0.25), ("c", 0.0)):
        one.add(cost, partial(note, schedule, done, name))
    schedule.run_until(0.4)
    one.add(1.0, partial(note, schedule, done, "d"))
    schedule.run_until(5.0)
    assert done == [("a", 0.5), ("b", 0.75), ("c", 0.75), ("d", 1.75)]


def test_hundred_handshakes_keep_a_processor_busy_and_later_work_waits() -> None:
    schedule, one = processor()
    done: list[float] = []
    for _ in range(100):
        one.add_handshake(lambda: None)
    one.receive(lambda: done.append(schedule.now))
    schedule.run_until(10.0)
    assert done == [pytest.approx(100 * SLOW.handshake + SLOW.packet)]
    assert one.received == 1


def test_work_that_sends_delays_the_next_piece() -> None:
    schedule, one = processor()
    done: list[float] = []
    one.add(0.0, lambda: one.spend(0.3))
    one.add(0.1, lambda: done.append(schedule.now))
    schedule.run_until(1.0)
    assert done == [pytest.approx(0.4)]


def test_packet_without_effect_costs_time() -> None:
    schedule, one = processor()
    done: list[float] = []
    for _ in range(10):
        one.receive(None)
    one.add(0.0, lambda: done.append(schedule.now))
    schedule.run_until(1.0)
    assert done == [pytest.approx(10 * SLOW.packet)]
    assert one.received == 10


def test_handshakes_that_take_turns_let_other_work_pass_between_them() -> None:
    schedule, one = processor(Costs(handshake=0.1, packet=0.01, handshakes_take_turns=True))
    done: list[tuple[str, float]] = []
    for name in ("h1", "h2", "h3"):
        one.add_handshake(partial(note, schedule, done, name))
    schedule.run_until(0.05)
    for name in ("p1", "p2"):
        one.receive(partial(note, schedule, done, name))
    schedule.run_until(1.0)
    assert done == [("h1", 0.1), ("p1", 0.11), ("p2", 0.12), ("h2", 0.22), ("h3", 0.32)]


def test_paused_process_works_again_when_it_wakes_and_an_ended_one_forgets_its_work() -> None:
    schedule, one = processor()
    done: list[float] = []
    one.add(0.5, lambda: done.append(schedule.now))
    schedule.run_until(0.2)
    one.pause()
    schedule.run_until(3.0)
    assert not done
    one.wake()
    schedule.run_until(4.0)
    assert done == [3.5]
    for _ in range(2):
        one.add(0.5, lambda: done.append(schedule.now))
    one.end_process()
    one.add(0.1, lambda: done.append(schedule.now))
    schedule.run_until(9.0)
    assert done == [3.5, 4.1]


def test_nodes_with_costs_become_one_group() -> None:
    world = world_of(4, SLOW)
    world.run_until(6.0)
    assert len({world.master_of(host) for host in world.hosts}) == 1
    assert world.streams.dials.handshakes[master(world)] == 3
    assert not abandoned(world)


def test_kernel_opens_tcp_of_a_busy_process_and_its_client_waits_its_turn() -> None:
    world = world_of(3, SLOW)
    world.run_until(6.0)
    server, client, _ = sorted(world.hosts, key=lambda h: h is not master(world))
    assert server.processor is not None
    server.processor.add(1.0)
    connect(world, client, server, timeout=2.0)
    world.run_until(6.9)
    assert Session(Direction.OUTBOUND, 900) not in client.streams
    world.run_until(7.3)
    assert Session(Direction.OUTBOUND, 900) in client.streams
    assert not abandoned(world)


def test_handshake_whose_client_gave_up_is_paid_by_the_server_and_counted() -> None:
    world = world_of(3, SLOW)
    world.run_until(6.0)
    server, client, _ = sorted(world.hosts, key=lambda h: h is not master(world))
    assert server.processor is not None
    dials = world.streams.dials
    before = dials.handshakes[server]
    server.processor.add(1.0)
    connect(world, client, server, timeout=0.5)
    world.run_until(6.9)
    assert dials.handshakes[server] == before
    assert not abandoned(world)
    world.run_until(7.5)
    assert dials.handshakes[server] == before + 1
    assert abandoned(world) == {server.name: 1}
    assert Session(Direction.OUTBOUND, 900) not in client.streams


def test_handshake_that_the_node_closes_midway_is_abandoned() -> None:
    world = world_of(3, SLOW)
    world.run_until(6.0)
    server, client, _ = sorted(world.hosts, key=lambda h: h is not master(world))
    connect(world, client, server, timeout=2.0)
    world.run_until(6.09)
    assert not abandoned(world)
    world.streams.close(client, Session(Direction.OUTBOUND, 900), "connection closed")
    world.run_until(8.0)
    assert Session(Direction.OUTBOUND, 900) not in client.streams
    assert abandoned(world) == {server.name: 1}


def test_no_second_address_is_tried_beside_a_handshake() -> None:
    world = world_of(3, Costs(handshake=0.5))
    world.run_until(6.0)
    server, client, _ = sorted(world.hosts, key=lambda h: h is not master(world))
    server.left_out = "fd00::1"
    dials, session = world.streams.dials, Session(Direction.OUTBOUND, 900)
    before = dials.handshakes[server], dials.abandoned[server]
    addresses = (*server.member.addresses, server.left_out)
    world.streams.connect(client, Connect(session, server.member.id, addresses, 11111, 3.0))
    world.run_until(9.0)
    assert session in client.streams
    assert (dials.handshakes[server], dials.abandoned[server]) == (before[0] + 1, before[1])


@pytest.mark.parametrize(("patience", "opens"), [(0.0, False), (5.0, True)])
def test_patience_counts_after_tcp_has_opened(*, patience: float, opens: bool) -> None:
    world = world_of(3, Costs(handshake=1.0))
    world.run_until(12.0)
    server, client, _ = sorted(world.hosts, key=lambda h: h is not master(world))
    session = Session(Direction.OUTBOUND, 900)
    connect = Connect(session, server.member.id, server.member.addresses, 11111, 0.5, patience)
    world.streams.connect(client, connect)
    world.run_until(16.0)
    assert (session in client.streams) is opens


def test_host_may_have_many_outbound_sessions_at_once() -> None:
    world = world_of(4, SLOW)
    world.run_until(6.0)
    client = next(h for h in world.hosts if h is not master(world))
    others = [h for h in world.hosts if h is not client] * 2
    for number, server in enumerate(others, 900):
        connect(world, client, server, timeout=2.0, number=number)
    world.run_until(8.0)
    outbound = {s.number for s in client.streams if s.direction is Direction.OUTBOUND}
    assert {900 + n for n in range(len(others))} <= outbound
