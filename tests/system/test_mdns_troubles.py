"""A Discovery that cannot run everywhere: its condition and its recovery. Needs root."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import pytest

from pskkey.adapters.discovery.mdns import LOOK_ALSO_EVERY, LOOK_EVERY
from pskkey.adapters.discovery.mdns_condition import describe_failure, describe_faults
from pskkey.adapters.discovery.multicast_sockets import IPV4_GROUP, IPV6_GROUP, Fault, open_sockets
from pskkey.adapters.discovery.network import look_up
from pskkey.core.events import AdvertReceived
from pskkey.model import ConditionKind, Role
from pskkey.rtnetlink.memberships import list_receiving
from pskkey.wire.advert import SERVICE_TYPE, instance_name
from tests.lab.namespaces import INTERFACE
from tests.no_descriptors import no_descriptor_left
from tests.system.heard import Listener, listening, until
from tests.system.loopback import Loopback
from tests.system.mdns_wire import overhear
from tests.system.private_network import (
    OWN,
    Stranger,
    bridge,
    configure,
    flood_of_addresses,
    own_network,
    private_network,
    set_sysctl,
)
from tests.udp_port import port_taken
from tests.wire import dns_messages as dns

pytestmark = pytest.mark.root


async def hear_a_newcomer(it: Listener, stranger: Stranger) -> AdvertReceived:
    """Announce a new node from the address of `stranger`, and return the event."""
    stranger.send(dns.announcement(instance_name(it.other), dns.text_data(it.pairs(it.other, Role.CLIENT))))
    event = await it.next_event()
    assert isinstance(event, AdvertReceived)
    return event


@pytest.mark.parametrize("shares", [False, True])
async def test_port_of_another_program_is_a_condition_until_it_is_free(loopback: Loopback, shares: bool) -> None:
    """Either the program does not share the port, or it shares it with programs of its own user only."""
    with private_network(), port_taken(shares=shares) as program:
        async with listening(loopback, INTERFACE, "v4") as it:
            (condition,) = it.discovery.conditions
            assert condition.kind is ConditionKind.MDNS_BLOCKED
            name = Path(sys.executable).name
            expected = f"mDNS does not run with IPv4: {name} (pid {program.pid}) has UDP port 5353 for itself"
            assert condition.text == expected
            assert "disallow-other-stacks=no" in condition.remedy
            await asyncio.sleep(7)  # two further attempts
            assert it.discovery.conditions == (condition,)
            program.kill()
            await until(lambda: not it.discovery.conditions)
            with Stranger() as stranger:
                assert (await hear_a_newcomer(it, stranger)).source == "10.83.1.1"


async def test_ipv6_runs_while_another_program_has_the_ipv4_port(loopback: Loopback) -> None:
    with private_network(), port_taken() as program:
        async with listening(loopback, INTERFACE, "both") as it:
            (condition,) = it.discovery.conditions
            assert condition.kind is ConditionKind.MDNS_PARTIAL
            it.discovery.advertise(it.advert(it.own, Role.MASTER))
            await asyncio.sleep(0.1)
            program.kill()
            await until(lambda: not it.discovery.conditions)
            with overhear(OWN) as wire:
                it.discovery.advertise(it.advert(it.own, Role.CLIENT))
                await until(lambda: wire.count_from(OWN) > 0)


async def test_part_that_does_not_run_is_tried_again_soon(loopback: Loopback) -> None:
    """Not only at the first look after the start."""
    with private_network(), port_taken() as program:
        async with listening(loopback, INTERFACE, "both") as it:
            await asyncio.sleep(LOOK_EVERY + 1)  # a further attempt
            assert it.discovery.conditions
            program.kill()
            await until(lambda: not it.discovery.conditions, LOOK_EVERY + 2)


async def test_lack_of_descriptors_is_a_condition_with_its_remedy_and_ends_soon(loopback: Loopback) -> None:
    with private_network():
        async with listening(loopback, INTERFACE) as it:
            with no_descriptor_left():
                await until(lambda: bool(it.discovery.conditions))
                (condition,) = it.discovery.conditions
                assert condition.kind is ConditionKind.MDNS_PARTIAL
                assert condition.text == "mDNS does not follow changes of the network: too many open files"
                assert condition.remedy == "raise LimitNOFILE= of the service"
            await until(lambda: not it.discovery.conditions, LOOK_EVERY + 2)


async def test_attempts_on_what_does_not_run_leave_alone_what_runs(loopback: Loopback) -> None:
    """A restart would send a goodbye, and make each known advert an event again."""
    with private_network(), port_taken():
        async with listening(loopback, INTERFACE, "both") as it:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                index = socket.if_nametoindex(INTERFACE)
                peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                peer.bind(("fe80::83", 5353, 0, index))
                text = dns.text_data(it.pairs(it.other, Role.CLIENT))
                announcement = dns.announcement(instance_name(it.other), text)
                peer.sendto(announcement, ("ff02::fb", 5353))
                event = await it.next_event()
                assert isinstance(event, AdvertReceived)
                assert event.source == f"fe80::83%{INTERFACE}"
                for _ in range(12):
                    await asyncio.sleep(1)
                    peer.sendto(announcement, ("ff02::fb", 5353))
                await it.expect_nothing()


async def test_advert_without_addresses_is_announced(loopback: Loopback) -> None:
    """The others connect to the address that it comes from."""
    with private_network():
        async with listening(loopback, INTERFACE) as it:
            with overhear(OWN) as wire:
                it.discovery.advertise(replace(it.advert(it.own, Role.MASTER), addresses=()))
                await wire.announced(f"{instance_name(it.own)}.{SERVICE_TYPE}", 5)


def end_ip_and_begin_again(ip: Literal["v4", "v6"]) -> None:
    """Let the kernel drop all memberships of the interface, which has the same index and address at once again."""
    if ip == "v6":
        configure(f"link set {INTERFACE} mtu 1200", f"link set {INTERFACE} mtu 1500")
        configure(f"address add fe80::83/64 dev {INTERFACE} nodad")
        return
    aside = f"pskkey-aside-{os.getpid()}"
    configure(f"netns add {aside}", f"link set {INTERFACE} netns {aside}")
    try:
        subprocess.run(["ip", "-n", aside, "link", "set", INTERFACE, "netns", str(os.getpid())], check=True)
    finally:
        configure(f"netns delete {aside}")
    configure(f"link set {INTERFACE} up", f"address add {OWN}/16 dev {INTERFACE}")


@pytest.mark.parametrize(("ip", "group"), [("v4", IPV4_GROUP), ("v6", IPV6_GROUP)])
async def test_membership_that_another_program_has_ended_is_restored(
    loopback: Loopback, ip: Literal["v4", "v6"], group: str
) -> None:
    """Another daemon closes the sockets from before the end of IP only after we have joined again."""
    with private_network():
        index = socket.if_nametoindex(INTERFACE)

        def is_received() -> bool:
            return index in list_receiving(ip_address(group))

        stale = open_sockets(look_up([INTERFACE], ip).multicast)
        async with listening(loopback, INTERFACE, ip) as it:
            end_ip_and_begin_again(ip)
            assert not is_received()
            await until(is_received)
            stale.close()
            assert not is_received()
            await until(is_received, LOOK_ALSO_EVERY + 2)
            assert it.discovery.conditions == ()


@pytest.mark.parametrize("name", ["büro0".encode(), "büro0".encode("latin-1")], ids=["UTF-8", "Latin-1"])
async def test_interface_with_any_name_is_used_when_it_appears(loopback: Loopback, name: bytes) -> None:
    with own_network(*bridge("lan", "10.1.0.1/16")):
        async with listening(loopback, "", "both") as it:
            configure(*bridge(name, "10.2.0.1/16", "fd77::1/64", "fe80::a/64"))
            await until(
                lambda: [network.addresses for network in it.networks][-1:] == [("10.1.0.1", "10.2.0.1", "fd77::1")]
            )
            assert it.failures == []
            assert it.discovery.conditions == ()


@pytest.mark.parametrize("before", [[], flood_of_addresses(INTERFACE)], ids=["one", "flood"])
async def test_new_address_alone_does_not_restart_mdns(loopback: Loopback, before: list[str]) -> None:
    with private_network():
        async with listening(loopback, INTERFACE) as it:
            with Stranger() as stranger, overhear(OWN) as wire:
                await hear_a_newcomer(it, stranger)
                await asyncio.sleep(1.5)  # the questions of the start are over
                wire.count_from(OWN)
                configure(*before, f"address add 10.84.0.1/16 dev {INTERFACE}")
                await until(lambda: any("10.84.0.0/16" in network.prefixes for network in it.networks))
                await it.expect_nothing()
                assert wire.count_from(OWN) == 0


async def test_too_many_interfaces_and_a_limit_are_a_condition_with_a_remedy(loopback: Loopback) -> None:
    bridges = [line for number in range(130) for line in bridge(f"br{number}", f"10.1.{number}.1/24")]
    with own_network(*bridges):
        set_sysctl("ipv4/igmp_max_memberships", 0)
        async with listening(loopback, "", "both") as it:
            (condition,) = it.discovery.conditions
            assert condition.kind is ConditionKind.MDNS_BLOCKED
            assert condition.text == (
                "mDNS does not run with IPv4 on br0, br1, br2, br3, br4, br5 and 122 more: "
                "the kernel allows no further multicast membership; "
                "mDNS does not run on br128, br129: there are too many interfaces"
            )
            assert condition.remedy == (
                "run sysctl net.ipv4.igmp_max_memberships=20; name the interfaces of the group in [network] interfaces"
            )


def test_each_other_fault_has_a_sentence_and_a_remedy() -> None:
    full = describe_faults([Fault(6, "eth0", errno.EMFILE)], (), is_running=True, holder="")
    assert full is not None
    assert (full.kind, full.text, full.remedy) == (
        ConditionKind.MDNS_PARTIAL,
        "mDNS does not run with IPv6 on eth0: too many open files",
        "raise LimitNOFILE= of the service",
    )
    unknown = describe_faults([Fault(4, "eth0", errno.ENODEV)], (), is_running=True, holder="")
    assert unknown is not None
    assert unknown.text == "mDNS does not run with IPv4 on eth0: No such device"
    assert describe_faults([], (), is_running=True, holder="") is None
    blocked = describe_failure(OSError(errno.ENOBUFS, "no buffer"), is_running=False)
    assert (blocked.kind, blocked.text) == (ConditionKind.MDNS_BLOCKED, "mDNS does not run: no buffer")
    partial = describe_failure(RuntimeError("a defect"), is_running=True)
    assert partial.kind is ConditionKind.MDNS_PARTIAL
    assert partial.text == "mDNS does not follow changes of the network: a defect"
