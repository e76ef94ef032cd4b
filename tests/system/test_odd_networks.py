"""A group in a network that something is wrong with: its end state, its condition, and the end of the condition."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.lab.daemon import Daemon, Status
from tests.lab.group import Group, key_of, why_apart
from tests.lab.namespaces import INTERFACE, Host
from tests.system.odd_network import (
    BUSY,
    Site,
    become_whole,
    look,
    run_ip,
    see_condition,
    see_doctor_content,
    see_doctor_find,
    seen_conditions,
    share_of_looks,
    show,
    show_condition,
    site,
    stay_the_same,
    terms_and_keys,
    watch,
)
from tests.system.starting import in_order, status_of

V4: Final = {"ip": "v4"}
INNER: Final = "inner0"
ENDS_WITHIN: Final = 10.0
"""Seconds after the end of a fault until the group is whole and shows no condition."""

pytestmark = pytest.mark.root


@pytest.fixture
async def place() -> AsyncIterator[Site]:
    """Hosts and daemons of one test."""
    with site() as made:
        yield made


def add_inner_network(host: Host, address: str) -> None:
    """Give a host an interface that no other node can reach."""
    run_ip(
        host,
        f"link add {INNER} type bridge",
        f"address add {address}/24 dev {INNER}",
        f"link set {INNER} addrgenmode none",
        f"link set {INNER} up",
    )


def announced_address(status: Status, daemon: Daemon) -> str:
    """Return the first address that a daemon announces, from the status of any daemon of its group."""
    return next(str(member["address"]) for member in status["members"] if member["id"] == daemon.id)


@pytest.mark.parametrize("other_group", [False, True], ids=["one group", "another group"])
async def test_machines_that_are_alike_inside_are_one_group(place: Site, other_group: bool) -> None:
    """The first address of the master is that of another node, where the joiner is."""
    hosts = [place.host() for _ in range(3)]
    panel1, panel2, control2 = hosts
    add_inner_network(panel1, "192.168.0.2")
    run_ip(panel2, f"link add {INNER} type veth peer name {INNER} netns {control2.namespace}")
    for host, address in ((panel2, "192.168.0.2"), (control2, "192.168.0.1")):
        run_ip(host, f"link set {INNER} addrgenmode none", f"address add {address}/24 dev {INNER}")
        run_ip(host, f"link set {INNER} up")
    for host in hosts:
        place.plug_again(host)
    first = place.daemon(panel1, "panel1", {"node": {"priority": 200}, "network": V4})
    other = {"group": {"name": "cell2"}} if other_group else {}
    second = place.daemon(panel2, "panel2", {"node": {"priority": 100}, "network": V4, **other})
    third = place.daemon(control2, "control2", {"node": {"priority": 50}, "network": V4})
    group = [first, third] if other_group else [first, second, third]
    await in_order([first] if other_group else [first, second])
    if other_group:
        await in_order([second])
    third.start()
    show("alike inside: whole after", await become_whole(group, 15))
    status = await status_of(first)
    assert status["role"] == "master"
    assert announced_address(status, first) == "192.168.0.2"
    await stay_the_same(group, 10)
    await see_doctor_content(third)
    if other_group:
        alone = await status_of(second)
        assert (alone["role"], len(alone["members"]), alone["conditions"]) == ("master", 1, [])


async def test_successor_with_seven_dead_addresses_is_joined_at_once(place: Site) -> None:
    """Packets to a dead address vanish: the host that they go to sends no error."""
    hosts = [place.host() for _ in range(3)]
    second = hosts[1]
    for number in range(7):
        name = f"br-{number}"
        run_ip(second, f"link add {name} type bridge", f"address add 172.{20 + number}.0.1/16 dev {name}")
        run_ip(second, f"link set {name} addrgenmode none", f"link set {name} up")
    place.plug_again(second)
    for host in (hosts[0], hosts[2]):
        run_ip(host, f"neighbour add 10.83.99.99 lladdr 02:00:00:00:99:99 dev {INTERFACE} nud permanent")
        run_ip(host, "route add default via 10.83.99.99")
    daemons = [
        place.daemon(host, f"n{number}", {"node": {"priority": 200 - number}, "network": V4})
        for number, host in enumerate(hosts)
    ]
    await in_order(daemons)
    await become_whole(daemons, BUSY)
    await asyncio.sleep(2)  # the master distributes the roster of all three
    before = await status_of(daemons[2])
    assert announced_address(before, daemons[1]) == "172.20.0.1"
    await see_doctor_content(daemons[2])
    left = daemons[1:]
    marks = [len(daemon.log) for daemon in left]
    killed = time.monotonic()
    daemons[0].signal(signal.SIGKILL)
    seen, statuses = await Group(left).together(5)
    show("seven dead addresses: one group after", seen - killed)
    assert {key_of(status or {}) for status in statuses.values()} == {key_of(before)}
    looks = await watch(left, ENDS_WITHIN - (time.monotonic() - killed))
    for statuses in looks:
        assert why_apart(statuses) is None
        assert key_of(statuses["n1"]) == key_of(before)
    assert [seen_conditions(looks, daemon) for daemon in left] == [set(), set()]
    await become_whole(left, 2)
    assert ["we are master" in daemon.log[mark:] for daemon, mark in zip(left, marks, strict=True)] == [True, False]


async def test_master_with_too_many_addresses_is_joined_at_the_one_that_it_leaves_out(place: Site) -> None:
    hosts = [place.host(), place.host()]
    gateway = hosts[0]
    for number in range(9):
        run_ip(gateway, f"link add br-{number} type bridge", f"address add 172.{20 + number}.0.1/16 dev br-{number}")
        run_ip(gateway, f"link set br-{number} addrgenmode none", f"link set br-{number} up")
    place.plug_again(gateway)
    first, second = daemons = [
        place.daemon(host, name, {"network": V4}) for host, name in zip(hosts, "ab", strict=True)
    ]
    await in_order([first])
    second.start()
    show("address left out: whole after", await become_whole(daemons, 15))
    status = await status_of(second)
    assert (status["role"], status["master"]["address"]) == ("client", gateway.ipv4)
    assert announced_address(status, first) == "172.20.0.1"
    assert f"not announced: 172.28.0.1, {gateway.ipv4}" in first.log
    await stay_the_same(daemons, 5)
    await see_doctor_content(first, second)


def about(daemon: Daemon, other: Daemon) -> list[str]:
    """Return the lines in the log of a daemon that name another one."""
    return [line for line in daemon.log.splitlines() if other.name in line]


def let_pass_only_small_packets(place: Site, host: Host, hook: str, size: int) -> None:
    """Drop larger packets that come from a host (`ingress`), or that go to it (`egress`)."""
    chain = f"chain {hook} {{ type filter hook {hook} device {host.port} priority 0; meta length > {size} drop; }};"
    place.switch.run("nft", f"table netdev odd {{ {chain} }}")


@pytest.mark.parametrize(
    ("hooks", "size"),
    [(("ingress", "egress"), 900), (("ingress",), 600), (("egress",), 600)],
    ids=["both", "from", "to"],
)
async def test_node_behind_a_path_for_small_packets_leaves_the_others_alone(
    place: Site, hooks: tuple[str, ...], size: int
) -> None:
    hosts = [place.host() for _ in range(4)]
    for host in hosts:
        # The kernel would let through a packet that a network card may still cut into segments.
        run_ip(host, f"link set {INTERFACE} gso_max_segs 1")
    daemons = [
        place.daemon(host, f"production-line-2-pump-controller-{number}", {"node": {"priority": 100 - number}})
        for number, host in enumerate(hosts)
    ]
    *others, cut_off = daemons
    master = others[0]
    await in_order(others)
    await become_whole(others, BUSY)
    before = await look(others)
    for hook in hooks:
        let_pass_only_small_packets(place, hosts[-1], hook, size)
    cut_off.start()
    looks = await watch(daemons, 40)
    settled = [{daemon.name: statuses[daemon.name] for daemon in others} for statuses in looks]
    assert all(key_of(statuses[d.name]) == key_of(before[d.name] or {}) for statuses in settled for d in others)
    terms = sorted({status["term"] for statuses in settled for status in statuses.values()})
    show("small packets only: terms", terms)
    assert terms[-1] - terms[0] <= 1
    assert len({terms_and_keys(statuses) for statuses in settled[len(settled) // 4 :]}) == 1
    there = await see_condition(cut_off, "master_unreachable", within=15)
    here = await see_condition(master, "member_unreachable", "master_unreachable", within=15)
    for daemon, row in ((cut_off, there), (master, here)):
        show_condition(daemon, row)
        assert "large packets" in row["remedy"]
    assert (there["peer"], here["peer"]) == (master.id, cut_off.id)
    for daemon, other in ((cut_off, master), (master, cut_off)):
        share = share_of_looks(looks, daemon, "master_unreachable", "member_unreachable")
        show(f"{daemon.name} showed a condition in this share of the looks", share)
        show(f"lines of {daemon.name} about the other in 40 s", len(about(daemon, other)))
        assert share == 1.0
        assert len(about(daemon, other)) <= 12
        show(f"{daemon.name} had", seen_conditions(looks, daemon))
    for daemon in others[1:]:
        assert seen_conditions(looks, daemon) == set()
    await see_doctor_find(cut_off, f"large packets do not get through to {master.name}")
    await see_doctor_find(master, f"large packets do not get through to {cut_off.name}")
    place.switch.run("nft", "delete table netdev odd")
    show("small packets only: whole after", await become_whole(daemons, ENDS_WITHIN))
    await see_doctor_content(cut_off, master)


async def test_two_masters_that_cannot_connect_report_each_other(place: Site) -> None:
    hosts = [place.host(), place.host()]
    table = "table inet odd { chain input { type filter hook input priority 0; tcp dport 11111 drop; }; }"
    for host in hosts:
        host.run("nft", table)
    daemons = [place.daemon(host, name) for host, name in zip(hosts, ("pump-a", "pump-b"), strict=True)]
    for daemon in daemons:
        daemon.start()
    looks = await watch(daemons, 40)
    assert [status["role"] for status in looks[-1].values()] == ["master", "master"]
    for daemon, other, host in ((daemons[0], daemons[1], hosts[1]), (daemons[1], daemons[0], hosts[0])):
        row = await see_condition(daemon, "master_unreachable", within=1)
        show_condition(daemon, row)
        assert share_of_looks(looks, daemon, "master_unreachable") == 1.0
        assert row["peer"] == other.id
        assert other.name in row["text"]
        assert host.ipv4 in row["address"] or host.ipv6 in row["address"]
        assert "TCP port 11111" in row["remedy"]
        lines = about(daemon, other)
        show(f"two masters: lines of {daemon.name} in 40 s", len(lines))
        assert 1 <= len(lines) <= 6
        await see_doctor_find(daemon, f"{other.name} ({other.id[:8]}) does not answer at {host.ipv4} port 11111")
    for host in hosts:
        host.run("nft", "delete table inet odd")
    show("two masters: whole after", await become_whole(daemons, ENDS_WITHIN))
    await see_doctor_content(*daemons)


async def test_nodes_with_link_local_addresses_alone_are_one_group(place: Site) -> None:
    addresses = ("fe80::a", "fe80::b")
    first, second = (place.daemon(place.host(f"{it}/64"), name) for it, name in zip(addresses, "ab", strict=True))
    first.start()
    second.start()
    show("link-local only: whole after", await become_whole([first, second], 15))
    await stay_the_same([first, second], 5)
    await see_doctor_content(first, second)
    statuses = [await status_of(first), await status_of(second)]
    (client,) = [status for status in statuses if status["role"] == "client"]
    master_address = addresses[[status["role"] for status in statuses].index("master")]
    show("link-local only: master of the client", client["master"])
    assert client["master"]["address"] == f"{master_address}%{INTERFACE}"
