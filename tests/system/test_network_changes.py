"""Real daemons on hosts whose interfaces and addresses change."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pskkey.adapters.discovery.mdns import LOOK_ALSO_EVERY, LOOK_EVERY
from pskkey.config.psk import generate_psk_line
from pskkey.rtnetlink.changes import SETTLE
from tests.lab.daemon import Daemon, Tables
from tests.lab.group import Group
from tests.lab.namespaces import INTERFACE, Host, Switch, switch
from tests.psk_files import write_psk
from tests.system.reloading import until

pytestmark = pytest.mark.root


@pytest.fixture
def hosts() -> Iterator[Switch]:
    with switch(2) as made:
        yield made


@pytest.fixture
async def group(hosts: Switch) -> AsyncIterator[Group]:
    with tempfile.TemporaryDirectory(prefix="psk-") as name:
        directory = Path(name)
        psk = directory / "psk"
        psk.touch(0o600)
        psk.write_text(generate_psk_line("group") + "\n")
        made = Group(
            Daemon(directory / f"n{number}", {"psk": {"file": str(psk)}}, host.command)
            for number, host in enumerate(hosts.hosts, start=1)
        )
        yield made
        for daemon in made.daemons:
            daemon.destroy()
        print(made.transcript())


def ip(host: Host, command: str) -> None:
    host.run("ip", *command.split())


async def test_node_with_too_many_addresses_announces_some_of_each_interface(hosts: Switch, group: Group) -> None:
    for host in hosts.hosts:
        for number in range(12):
            ip(host, f"address add {host.ipv4.replace('10.83.0', f'10.83.{100 + number}')}/16 dev {INTERFACE}")
        ip(host, "link add other0 type bridge")
        ip(host, "address add 10.99.0.1/24 dev other0")
        ip(host, "link set other0 up")
    printed = hosts.hosts[0].run(
        sys.executable,
        "-c",
        "from pskkey.adapters.discovery.network import look_up; network = look_up((), 'both'); "
        "print(*network.addresses); print(*network.left_out); print(*(each.ipv4 for each in network.multicast))",
    )
    announced, left_out, multicast = (line.split() for line in printed.splitlines())
    assert (len(announced), len(left_out)) == (8, 7)
    # mDNS runs once on each interface, not once for each address.
    assert multicast == [hosts.hosts[0].ipv4, "10.99.0.1"]
    assert {hosts.hosts[0].ipv4, "10.99.0.1"} <= set(announced)  # one of each interface at least
    # Both hosts have 10.99.0.1. A node that connects there reaches itself, and must try another address.
    group.start()
    await group.together(20)
    assert "not announced: " in group.daemons[0].log
    assert "Traceback" not in group.daemons[0].log


async def test_daemon_uses_a_new_address_and_a_recreated_interface(hosts: Switch, group: Group) -> None:
    host, switch_namespace = hosts.hosts[0], f"{hosts.hosts[0].namespace.rpartition('n')[0]}switch"
    group.start()
    await group.together(20)
    ip(host, f"address add 10.83.9.9/16 dev {INTERFACE}")
    await until(group.daemons[0], "10.83.9.9")
    before = len(group.daemons[0].log)
    ip(host, f"link delete {INTERFACE}")
    ip(host, f"link add {INTERFACE} type veth peer name again netns {switch_namespace}")
    for line in ("10.83.0.1/16", "10.83.9.9/16"):
        ip(host, f"address add {line} dev {INTERFACE}")
    ip(host, f"address add {host.ipv6}/64 dev {INTERFACE} nodad")
    ip(host, f"link set {INTERFACE} up")
    ip(host, f"route add 224.0.0.0/4 dev {INTERFACE}")
    host.run("ip", "-n", switch_namespace, "link", "set", "again", "master", "br0", "up")
    assert "the network changed: now " in await until(group.daemons[0], "10.83.9.9", before)
    # The restarted node finds the other node again only on the new interface.
    await group.daemons[1].stop()
    group.daemons[1].start()
    await group.together(20)
    assert "duplicate" not in (group.daemons[0].log + group.daemons[1].log).lower()


async def test_a_change_is_noticed_long_before_the_next_look(hosts: Switch, group: Group) -> None:
    host, daemon = hosts.hosts[0], group.daemons[0]
    daemon.start()
    await until(daemon, "listening -> master")
    ip(host, f"address add 10.83.9.8/16 dev {INTERFACE}")
    await until(daemon, "10.83.9.8")
    # From now on the daemon looks every LOOK_ALSO_EVERY seconds, and does not restart mDNS for LOOK_EVERY.
    await asyncio.sleep(LOOK_EVERY)
    ip(host, f"address add 10.83.9.9/16 dev {INTERFACE}")
    await until(daemon, "10.83.9.9", within=(LOOK_ALSO_EVERY - LOOK_EVERY) / 2)


MOVED = (
    "link set other0 netns {away}",
    "-n {away} link set other0 netns {home}",
    "link set other0 addrgenmode none",
    "link set other0 up",
)
SMALL_MTU = ("link set other0 mtu 1200", "link set other0 mtu 1500")


@pytest.mark.parametrize(
    ("address", "membership", "changes"),
    [
        ("10.99.0.1/24", ("igmp", "FB0000E0"), MOVED),
        ("fd99::1/64", ("igmp6", "ff0200000000000000000000000000fb"), MOVED),
        ("fd99::1/64", ("igmp6", "ff0200000000000000000000000000fb"), SMALL_MTU),
    ],
    ids=["IPv4, moved away and back", "IPv6, moved away and back", "IPv6, small MTU"],
)
async def test_mdns_joins_again_where_ip_has_ended_and_begun_again(
    hosts: Switch, group: Group, address: str, membership: tuple[str, str], changes: tuple[str, ...]
) -> None:
    """All is over before the next look, and the interface has the same index and address again."""
    host, daemon = hosts.hosts[0], group.daemons[0]

    def memberships() -> int:
        file, words = membership
        return host.run("cat", f"/proc/net/{file}").count(words)

    for line in ("add other0 type veth peer name far0", "set other0 addrgenmode none", "set far0 addrgenmode none up"):
        ip(host, f"link {line}")
    add_address = f"address add {address} dev other0{' nodad' if ':' in address else ''}"
    for line in ("link set other0 up", add_address):
        ip(host, line)
    daemon.start()
    await until(daemon, "listening -> master")
    joined = memberships()
    await asyncio.sleep(LOOK_EVERY)
    names = {"home": host.namespace, "away": hosts.hosts[1].namespace}
    for line in (*changes, add_address):
        ip(host, line.format(**names))
    assert memberships() == joined - 1, "this test came too late to see the loss"
    deadline = time.monotonic() + 2 * LOOK_EVERY
    while memberships() < joined:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_interface_that_goes_down_is_not_announced_until_it_is_up_again(hosts: Switch, group: Group) -> None:
    host, daemon = hosts.hosts[0], group.daemons[0]
    # Without IPv6 addresses, which the kernel removes and adds again.
    for line in ("add other0 type bridge", "set other0 addrgenmode none", "set other0 up"):
        ip(host, f"link {line}")
    ip(host, "address add 10.99.0.1/24 dev other0")
    daemon.start()
    await until(daemon, "listening -> master")
    ip(host, "link set other0 down")
    log = await until(daemon, "the network changed: now")
    assert "10.99.0.1" not in log.rpartition("now")[2].splitlines()[0]
    size = len(daemon.log)
    await asyncio.sleep(LOOK_EVERY)
    ip(host, "link set other0 up")
    assert "10.99.0.1" in await until(daemon, "the network changed: now", size, (LOOK_ALSO_EVERY - LOOK_EVERY) / 2)


async def test_a_network_that_changes_all_the_time_does_not_keep_mdns_from_working(hosts: Switch, group: Group) -> None:
    host, daemon = hosts.hosts[0], group.daemons[0]
    daemon.start()
    await until(daemon, "listening -> master")
    begun = time.monotonic()
    for number in range(30):
        ip(host, f"address add 10.83.9.{number}/16 dev {INTERFACE}")
        await asyncio.sleep(0.3)
    started = daemon.log.count("the network changed")
    assert 2 <= started <= 2 + (time.monotonic() - begun) / LOOK_EVERY


async def test_missing_interface_is_reported_and_used_when_it_appears(hosts: Switch, group: Group) -> None:
    ip(hosts.hosts[0], f"link set {INTERFACE} down")
    for address in (hosts.hosts[0].ipv4 + "/16",):
        ip(hosts.hosts[0], f"address delete {address} dev {INTERFACE}")
    group.start()
    await until(group.daemons[0], "alone: no interface of this machine but loopback has an address now")
    ip(hosts.hosts[0], f"address add {hosts.hosts[0].ipv4}/16 dev {INTERFACE}")
    ip(hosts.hosts[0], f"link set {INTERFACE} up")
    ip(hosts.hosts[0], f"route add 224.0.0.0/4 dev {INTERFACE}")
    await group.together(25)


@pytest.mark.parametrize("by_address", [False, True], ids=["all", "by address"])
async def test_node_without_an_address_of_its_ip_version_names_the_setting(hosts: Switch, by_address: bool) -> None:
    host = hosts.hosts[0]
    for address in (f"{host.ipv6}/64", f"fe80::{host.port[1:]}/64"):
        if not by_address:
            ip(host, f"address delete {address} dev {INTERFACE}")
    chosen: Tables = {"network": {"ip": "v6", **({"interfaces": [host.ipv4]} if by_address else {})}}
    with tempfile.TemporaryDirectory(prefix="psk-") as name:
        daemon = Daemon(
            Path(name) / "n1", {"psk": {"file": str(write_psk(Path(name) / "psk", "a"))}, **chosen}, host.command
        )
        daemon.start()
        try:
            where = (
                f"nothing in [network] interfaces = {host.ipv4}"
                if by_address
                else "no interface of this machine but loopback"
            )
            await until(daemon, f"alone: {where} has an IPv6 address now, and [network] ip is v6, so no other node")
            assert 'give the interface an IPv6 address, or set [network] ip = "both"' in daemon.log
        finally:
            daemon.destroy()


async def test_group_forms_while_the_kernel_still_checks_ipv6_addresses(hosts: Switch, group: Group) -> None:
    for host in hosts.hosts:
        for address in (f"{host.ipv4}/16", f"{host.ipv6}/64", f"fe80::{host.port[1:]}/64"):
            ip(host, f"address delete {address} dev {INTERFACE}")
        ip(host, f"address add fe80::{host.port[1:]}/64 dev {INTERFACE}")
        ip(host, f"address add {host.ipv6}/64 dev {INTERFACE}")
    group.start()
    await group.together(25)


WAIT_FOR_CHANGES = """
import asyncio, resource, sys, time
from pskkey.rtnetlink.changes import ADDRESSES, NetworkChanges

async def main(longest, files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with NetworkChanges(ADDRESSES) as changes:
        print("ready", changes.are_announced, flush=True)
        for _ in range(4):
            begun = time.monotonic()
            await changes.wait(longest)
            print(time.monotonic() - begun, flush=True)

asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
"""


def waiting(host: Host, longest: float, files: int) -> subprocess.Popen[str]:
    command = [*host.command, sys.executable, "-c", WAIT_FOR_CHANGES, str(longest), str(files)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kernel_announces_added_and_deleted_addresses(hosts: Switch) -> None:
    host = hosts.hosts[0]
    with waiting(host, 20, 100) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready True\n"
            for address in ("10.83.9.9/16", "fd83::99/64"):
                for change, option in (("add", " nodad"), ("delete", "")):
                    ip(host, f"address {change} {address} dev {INTERFACE}{option}")
                    assert SETTLE <= float(process.stdout.readline()) < 10
        finally:
            process.kill()


def test_each_wait_lasts_its_time_if_the_kernel_announces_nothing(hosts: Switch) -> None:
    host = hosts.hosts[0]
    with waiting(host, 1.5, 6) as process:  # asyncio has the last of six descriptors: none is left for a socket
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready False\n"
            ip(host, f"address add 10.83.9.9/16 dev {INTERFACE}")
            assert float(process.stdout.readline()) >= 1.5
        finally:
            process.kill()
