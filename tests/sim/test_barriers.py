"""Ways that let adverts pass, and no TCP or only small messages: the rest of the group is not disturbed."""

from pskkey.core.actions import Action, Send
from pskkey.core.notices import JoinFailed, KeyDistributed
from pskkey.model import ConditionKind, Join, Role
from tests.sim.host import Host
from tests.sim.world import World


def group_of(size: int) -> tuple[World, list[Host]]:
    """Return a world with a whole group; the first host is the master."""
    world = World(7)
    hosts = [world.add(priority=200 - number) for number in range(size)]
    world.start(hosts[0])
    world.run_until(2.0)
    for host in hosts[1:]:
        world.start(host)
    world.run_until(5.0)
    assert roles(hosts) == [Role.MASTER, *[Role.CLIENT] * (size - 1)]
    return world, hosts


def roles(hosts: list[Host]) -> list[Role]:
    """Return the roles of the hosts."""
    return [host.node.view().role for host in hosts if host.node is not None]


def conditions(host: Host) -> set[tuple[ConditionKind, str | None]]:
    """Return the kinds of the conditions of a host, with their peers."""
    assert host.node is not None
    return {(condition.kind, condition.peer) for condition in host.node.view().conditions}


def record(world: World, kind: type[Action]) -> list[tuple[Host, Action]]:
    """Return the list of all later actions of a kind."""
    found: list[tuple[Host, Action]] = []
    world.actions.append(lambda host, action: found.append((host, action)) if isinstance(action, kind) else None)
    return found


def test_node_behind_a_way_for_small_packets_costs_the_others_neither_keys_nor_terms() -> None:
    world, hosts = group_of(7)
    last = world.add(priority=10)
    world.reach.narrow(last)
    keys = record(world, KeyDistributed)
    terms = [host.node.view().term for host in hosts if host.node]
    world.start(last)
    world.run_until(125.0)
    assert roles([*hosts, last]) == [Role.MASTER, *[Role.CLIENT] * 6, Role.MASTER]
    assert not [host for host, _ in keys if host is not last]
    assert all(host.node and host.node.view().term - term <= 1 for host, term in zip(hosts, terms, strict=True))
    assert conditions(last) == {(ConditionKind.MASTER_UNREACHABLE, hosts[0].member.id)}
    assert (ConditionKind.MEMBER_UNREACHABLE, last.member.id) in conditions(hosts[0])
    world.reach.heal()
    world.run_until(136.0)
    assert roles([*hosts, last]) == [Role.MASTER, *[Role.CLIENT] * 7]
    assert not any(conditions(host) for host in (*hosts, last))


def test_attempts_behind_a_way_for_small_packets_become_rare() -> None:
    world, hosts = group_of(5)
    last = world.add(priority=10)
    world.reach.narrow(last)
    sent = record(world, Send)
    world.start(last)
    world.run_until(30.0)
    sent.clear()
    world.run_until(130.0)
    joins = [host for host, action in sent if isinstance(action, Send) and isinstance(action.message, Join)]
    assert 8 <= len(joins) <= 100.0 / (5.0 + 2.0), "a hold-down, and the attempt itself"
    assert set(joins) == {last}
    assert roles(hosts)[0] is Role.MASTER


def test_two_masters_without_tcp_name_each_other_and_merge_when_tcp_passes() -> None:
    world = World(8)
    one, other = world.add(priority=200), world.add()
    world.reach.bar_tcp(one, other)
    world.reach.bar_tcp(other, one)
    reports = record(world, JoinFailed)
    world.start(one)
    world.start(other)
    world.run_until(60.0)
    assert roles([one, other]) == [Role.MASTER, Role.MASTER]
    assert conditions(one) == {(ConditionKind.MASTER_UNREACHABLE, other.member.id)}
    assert conditions(other) == {(ConditionKind.MASTER_UNREACHABLE, one.member.id)}
    assert len(reports) <= 4, "a failure is reported when it begins"
    world.reach.heal()
    world.run_until(70.0)
    assert roles([one, other]) == [Role.MASTER, Role.CLIENT]
    assert not conditions(one) | conditions(other)


def test_tcp_in_one_way_only_is_enough_for_nobody_and_costs_no_key() -> None:
    world, hosts = group_of(4)
    last = world.add(priority=10)
    for host in hosts:
        world.reach.bar_tcp(host, last)
    keys = record(world, KeyDistributed)
    world.start(last)
    world.run_until(60.0)
    assert roles(hosts) == [Role.MASTER, *[Role.CLIENT] * 3]
    assert not [host for host, _ in keys if host is not last]
    assert conditions(last) == {(ConditionKind.MASTER_UNREACHABLE, hosts[0].member.id)}


def test_node_whose_handshakes_do_not_pass_is_not_the_winner_of_a_merge() -> None:
    """The members of the winner could not join it either, but they would be cut off with the loser."""
    world, hosts = group_of(4)
    last = world.add(priority=10)
    world.reach.narrow_handshakes(last)
    keys = record(world, KeyDistributed)
    terms = [host.node.view().term for host in hosts if host.node]
    world.start(last)
    world.run_until(125.0)
    assert roles([*hosts, last]) == [Role.MASTER, *[Role.CLIENT] * 3, Role.MASTER]
    assert not [host for host, _ in keys if host is not last]
    assert [host.node.view().term for host in hosts if host.node] == terms
    assert conditions(last) == {(ConditionKind.MASTER_UNREACHABLE, hosts[0].member.id)}
    assert conditions(hosts[0]) == {(ConditionKind.MASTER_UNREACHABLE, last.member.id)}
    world.reach.heal()
    world.run_until(136.0)
    assert roles([*hosts, last]) == [Role.MASTER, *[Role.CLIENT] * 4]
    assert not any(conditions(host) for host in (*hosts, last))
