"""An endpoint whose interface is removed, made anew, renamed, moved, or comes later: real interfaces in a namespace."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from pskkey.mcast.endpoint import LOOK_EVERY
from pskkey.mcast.group_socket import GroupSocket
from pskkey.mcast.interface import Place
from pskkey.rtnetlink.changes import SETTLE
from tests.mcast.member import PORT, member
from tests.mcast.namespace import (
    delete_interface,
    give_addresses,
    ip,
    make_interface,
    multicast_namespace,
    name_of_namespace,
    plug_cable,
    pull_cable,
)
from tests.mcast.no_netlink import no_netlink
from tests.no_descriptors import no_descriptor_left
from tests.system.private_network import configure, flood_of_addresses

pytestmark = pytest.mark.root

IPV4, IPV6, LINK_LOCAL = "239.1.2.3", "ff15::77", "ff12::1234"
LONG_NAME = "a-long-alternative-name-of-the-usb-adapter-" + "x" * 80

PROGRAM = """
import asyncio, sys
from pskkey.mcast import MulticastEndpoint

async def main(interface):
    changed, heard = asyncio.Event(), asyncio.Event()
    endpoint = MulticastEndpoint("239.1.2.3", 12345, lambda _: heard.set(), interface=interface,
                                 interface_changed=changed.set)
    while True:
        while endpoint.has_interface:
            heard.clear()
            endpoint.send(b"x")
            await heard.wait()
            print("hears", flush=True)
            changed.clear()
            await changed.wait()
        print("gone", flush=True)
        changed.clear()
        await changed.wait()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def eth() -> Iterator[str]:
    with multicast_namespace() as name:
        yield name


def set_default_route(interface: str) -> None:
    """Let multicast leave by this interface, unless a program chooses another one."""
    ip("route", "replace", "224.0.0.0/4", "dev", interface)
    ip("-6", "route", "replace", "ff15::/16", "dev", interface, "table", "local", "metric", "1")


def move_away_and_back(interface: str) -> None:
    """Move an interface to another namespace and back. It comes back with the same index."""
    index = socket.if_nametoindex(interface)
    aside = f"pskkey-aside-{os.getpid()}"
    ip("netns", "add", aside)
    try:
        ip("link", "set", interface, "netns", aside)
        ip("-n", aside, "link", "set", interface, "netns", name_of_namespace())
    finally:
        ip("netns", "delete", aside)
    plug_cable(interface)
    assert socket.if_nametoindex(interface) == index


@pytest.mark.parametrize(
    ("group", "interface"),
    [
        (IPV4, "mc0"),
        (IPV4, "10.77.0.1"),
        (IPV4, "fd77::1"),
        (IPV4, LONG_NAME),
        (IPV4, None),
        (IPV6, "mc0"),
        (IPV6, "10.77.0.1"),
        (IPV6, "fd77::1%mc0"),
        (IPV6, LONG_NAME),
        (IPV6, None),
        (f"{IPV6}%mc0", None),
        (f"{LINK_LOCAL}%mc0", None),
        (f"{LINK_LOCAL}%{LONG_NAME}", "mc0"),
        (LINK_LOCAL, "short-alias"),
    ],
)
async def test_interface_that_is_made_anew_is_joined_again(
    eth: str, group: str, interface: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    def complete() -> None:
        for alternative in (LONG_NAME, "short-alias"):
            ip("link", "property", "add", "dev", eth, "altname", alternative)
        set_default_route(eth)

    complete()
    async with member(group, interface) as one, member(group, interface) as two:
        await one.check_hears(b"before")
        delete_interface(eth)
        await one.until_gone()
        assert not one.endpoint.send(b"lost")
        assert (one["send_failed"], one["interface_lost"], one["rejoined"]) == (1, 1, 0)
        assert "its interface is gone" in caplog.text
        make_interface(eth)
        complete()
        for each in (one, two):
            await each.until_rejoined()
        for each in (one, two):
            await each.check_hears(b"after")
            assert (each["interface_lost"], each["rejoined"]) == (1, 1)
    assert "s without it" in caplog.text
    assert b"lost" not in one.heard


@pytest.mark.parametrize("group", [IPV4, IPV6, LINK_LOCAL])
async def test_interface_that_is_made_anew_at_once_is_joined_again(eth: str, group: str) -> None:
    async with member(group, eth) as session:
        delete_interface(eth)
        make_interface(eth)
        await session.until_rejoined()
        await session.check_hears(b"after")
        assert (session["interface_lost"], session["rejoined"]) == (0, 1)


@pytest.mark.parametrize("group", [IPV4, IPV6, LINK_LOCAL])
async def test_interface_may_come_later_than_the_program(
    eth: str, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with member(group, "usb0") as session:
        assert not session.endpoint.has_interface
        assert not session.endpoint.send(b"too early")
        assert f"'usb0' is no interface of this host now; it has lo, end0, {eth}" in caplog.text
        ip("link", "add", "usb0", "type", "veth", "peer", "name", "end1")
        await session.until_rejoined()
        ip("link", "set", "end1", "up")
        ip("link", "set", "usb0", "up")
        give_addresses("usb0", 1)
        await session.check_hears(b"in time")


@pytest.mark.parametrize("group", [IPV4, IPV6])
async def test_route_to_the_group_may_come_later_than_the_program(eth: str, group: str) -> None:
    pull_cable(eth)
    ip("link", "set", "end0", "down")
    async with member(group, None) as session:
        assert not session.endpoint.has_interface
        plug_cable(eth)
        ip("link", "set", "end0", "up")
        set_default_route(eth)
        await session.until_rejoined()
        await session.check_hears(b"in time")


@pytest.mark.parametrize("group", [IPV4, IPV6])
async def test_default_interface_follows_the_route(eth: str, group: str, caplog: pytest.LogCaptureFixture) -> None:
    make_interface("mc2", 2)
    set_default_route(eth)
    async with member(group, None) as session:
        await session.check_hears(b"on the first")
        await asyncio.sleep(LOOK_EVERY + SETTLE)  # from now on it looks only after an announcement, or in 30 s
        set_default_route("mc2")
        await session.until_rejoined()
        await session.check_hears(b"on the second")
        assert (session["interface_lost"], session["rejoined"]) == (0, 1)
    assert "the default interface is another one now" in caplog.text


@pytest.mark.parametrize("interface", ["10.77.0.1", "fd77::1"])
async def test_address_that_moves_takes_the_session_along(eth: str, interface: str) -> None:
    make_interface("mc2", 2)
    async with member(IPV4, interface) as session:
        prefix = "/24" if "." in interface else "/64"
        ip("address", "delete", interface + prefix, "dev", eth)
        ip("address", "add", interface + prefix, "dev", "mc2")
        await session.until_rejoined()
        await session.check_hears(b"after")


async def test_session_stays_and_sends_while_the_address_that_named_its_interface_is_away(eth: str) -> None:
    async with member(IPV4, "10.77.0.1") as session:
        ip("address", "delete", "10.77.0.1/24", "dev", eth)
        ip("address", "add", "10.77.0.9/24", "dev", eth)
        await asyncio.sleep(3 * SETTLE)  # until it has noticed, which no event announces
        await session.check_hears(b"from the other address")
        assert (session["interface_lost"], session["rejoined"]) == (0, 0)


@pytest.mark.parametrize("group", [IPV4, IPV6, LINK_LOCAL])
async def test_renamed_interface_is_not_left_and_a_new_one_with_the_name_is_joined(eth: str, group: str) -> None:
    async with member(group, eth) as session:
        ip("link", "set", eth, "down")
        ip("link", "set", eth, "name", "renamed")
        plug_cable("renamed")
        await asyncio.sleep(3 * SETTLE)  # nothing is to happen
        await session.check_hears(b"under its new name")
        assert (session["interface_lost"], session["rejoined"]) == (0, 0)
        make_interface(eth, 1)
        await session.until_rejoined()
        ip("link", "delete", "renamed")
        await session.check_hears(b"on the new one")
        assert (session["interface_lost"], session["rejoined"]) == (0, 1)


@pytest.mark.parametrize("group", [IPV4, IPV6, LINK_LOCAL])
async def test_unplugged_cable_costs_no_rejoin(eth: str, group: str) -> None:
    async with member(group, eth) as session:
        pull_cable(eth)
        assert not session.endpoint.send(b"lost")
        await asyncio.sleep(3 * SETTLE)  # nothing is to happen
        plug_cable(eth)
        await asyncio.sleep(3 * SETTLE)
        await session.check_hears(b"after")
        assert (session["interface_lost"], session["rejoined"]) == (0, 0)


@pytest.mark.parametrize(
    ("group", "interface", "mtu"), [(IPV4, "lo", 67), (IPV6, "mc0", 1279), (LINK_LOCAL, "mc0", 68)]
)
@pytest.mark.usefixtures("eth")
async def test_membership_that_ended_with_a_small_mtu_is_restored(group: str, interface: str, mtu: int) -> None:
    """Two sessions: the membership that the other one has made anew must not hide that ours is lost."""
    async with member(group, interface) as one, member(group, interface) as two:
        ip("link", "set", interface, "mtu", str(mtu))
        ip("link", "set", interface, "mtu", "1500")
        pull_cable(interface)
        plug_cable(interface)
        for each in (one, two):
            await each.until_rejoined()
        two.endpoint.close()
        await one.check_hears(b"after")


@pytest.mark.parametrize(
    ("group", "interface", "mtu"), [(IPV4, "lo", 67), (IPV6, "mc0", 1279), (LINK_LOCAL, "mc0", 68)]
)
@pytest.mark.usefixtures("eth")
async def test_session_waits_until_the_interface_has_ip_again(group: str, interface: str, mtu: int) -> None:
    async with member(group, interface) as session:
        ip("link", "set", interface, "mtu", str(mtu))
        await session.until_gone()
        ip("link", "set", interface, "mtu", "1500")
        pull_cable(interface)
        plug_cable(interface)
        await session.until_rejoined()
        await session.check_hears(b"after")


@pytest.mark.parametrize("group", [IPV4, IPV6, LINK_LOCAL])
async def test_interface_that_comes_back_with_the_same_index_is_joined_again(eth: str, group: str) -> None:
    async with member(group, eth) as one, member(group, eth) as two:
        move_away_and_back(eth)
        for each in (one, two):
            await each.until_rejoined()
        two.endpoint.close()
        await one.check_hears(b"after")


@pytest.mark.parametrize("group", [IPV4, IPV6])
async def test_membership_that_another_program_has_ended_is_restored(eth: str, group: str) -> None:
    """On close, the kernel leaves the group on the interface that has the index of the former one now."""
    how = GroupSocket(ip_address(group), PORT, ttl=1, loopback=True, receive_buffer=1 << 16)
    with how.open(Place(socket.if_nametoindex(eth))) as stale:
        async with member(group, eth) as session:
            move_away_and_back(eth)
            await session.until_rejoined()
            await session.check_hears(b"before")
            stale.close()
            ip("address", "add", "10.77.7.1/24", "dev", eth)  # so that the next look is not in 30 s only
            await session.until_rejoined(2)
            await session.check_hears(b"after")


@pytest.mark.parametrize("interface", ["mc0", LONG_NAME, "index"])
async def test_session_stays_while_no_descriptor_is_left(eth: str, interface: str) -> None:
    ip("link", "property", "add", "dev", eth, "altname", LONG_NAME)
    name = str(socket.if_nametoindex(eth)) if interface == "index" else interface
    # It ends after the block: its end closes descriptors of this process.
    command = ("sh", "-c", f"read line; ip address add 10.77.7.1/24 dev {eth} && read line")
    async with member(IPV4, name) as session:
        change = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        assert change.stdin is not None
        with no_descriptor_left():
            change.stdin.write(b"now\n")
            await asyncio.sleep(3 * SETTLE)  # until it has looked; nothing is to happen
        await change.communicate(b"end\n")
        assert change.returncode == 0
        await session.check_hears(b"after")
        assert (session["interface_lost"], session["rejoined"]) == (0, 0)


async def test_flood_of_addresses_costs_no_rejoin(eth: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with member(IPV4, eth) as session:
        configure(*flood_of_addresses(eth))  # nobody reads meanwhile
        await asyncio.sleep(3 * SETTLE)  # until it has looked; nothing is to happen
        await session.check_hears(b"after")
        assert (session["interface_lost"], session["rejoined"]) == (0, 0)
    assert "the kernel announced more changes than were read" in caplog.text


async def test_session_follows_its_interface_where_netlink_is_not_allowed(eth: str) -> None:
    """As in a unit with RestrictAddressFamilies=AF_INET AF_UNIX: see `no_netlink`."""
    with no_netlink(PROGRAM, eth) as program:
        assert program.read() == "hears"
        delete_interface(eth)
        assert program.read() == "gone"
        make_interface(eth)
        assert program.read() == "hears"


async def test_interface_that_leaves_a_bridge_is_not_taken_for_a_removed_one(eth: str) -> None:
    """The kernel announces both with the same type of message."""
    async with member(IPV4, eth) as session:
        ip("link", "add", "bridge0", "type", "bridge")
        ip("link", "set", eth, "master", "bridge0")
        ip("link", "set", eth, "nomaster")
        await asyncio.sleep(3 * SETTLE)  # nothing is to happen
        assert (session["interface_lost"], session["rejoined"]) == (0, 0)


async def test_flapping_interface_costs_a_bounded_rate_of_rejoins(eth: str, caplog: pytest.LogCaptureFixture) -> None:
    async with member(IPV4, eth) as session:
        begun, processor = time.monotonic(), time.process_time()
        for _ in range(40):
            delete_interface(eth)
            make_interface(eth)
            session.endpoint.send(b"perhaps lost")
            await asyncio.sleep(0.02)
        await session.until_rejoined()
        elapsed = time.monotonic() - begun
        assert session["rejoined"] <= 2 * elapsed + 1
        assert session["interface_lost"] <= 2 * elapsed + 1
        assert len([r for r in caplog.records if r.levelno >= logging.INFO]) <= 4 * elapsed + 4
        assert time.process_time() - processor < 1 + elapsed / 4
        await asyncio.sleep(3 * SETTLE)  # until it has seen the last change
        await session.check_hears(b"after")


async def test_session_without_an_interface_does_not_loop(eth: str) -> None:
    async with member(IPV4, eth) as session:
        await session.check_hears(b"before")
        delete_interface(eth)
        await session.until_gone()
        before = time.process_time()
        await asyncio.sleep(1)
        assert time.process_time() - before < 0.1
