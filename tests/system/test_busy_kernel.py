"""A local user keeps the kernel busy with the interfaces of namespaces. Discovery waits, but its event loop does not.

It takes a namespace of their own, and on Debian every user may make one.
"""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from ipaddress import ip_address

from pskkey.adapters.discovery.multicast_sockets import IPV4_GROUP
from pskkey.rtnetlink.interfaces import list_interfaces
from pskkey.rtnetlink.memberships import list_receiving
from tests.lab.standstill import standstill
from tests.system.heard import Listener, until
from tests.system.loopback import MULTICAST_INTERFACE, Loopback
from tests.system.private_network import bridge, configure, own_network

AWAY = 50.0
"""The longest time, in milliseconds, for which the event loop of a daemon may be away."""


@contextmanager
def busy_kernel() -> Iterator[Callable[[], None]]:
    """Make a namespace with many interfaces. The function that this yields lets the kernel remove it.

    The kernel needs seconds for that. Meanwhile it lists no interfaces, and nobody joins or leaves an IPv4 group.
    """
    namespace = f"pskkey-busy-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    with ExitStack() as stack:
        delete = stack.enter_context(ExitStack())
        delete.callback(subprocess.run, ["ip", "netns", "delete", namespace], check=True)
        lines = [f"link add b{n} type bridge\nlink set b{n} up" for n in range(200)]
        subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines).encode(), check=True)

        def begin() -> None:
            delete.close()
            time.sleep(0.2)  # the kernel begins a little later

        yield begin
    list_interfaces()


class Turns:
    """Measures how long a turn of this event loop takes, from `begin` on."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    def begin(self) -> None:
        self._ticking = asyncio.create_task(self._tick())

    async def end(self) -> None:
        await asyncio.sleep(0.02)
        self._ticking.cancel()

    async def _tick(self) -> None:
        while True:
            since = time.monotonic()
            await asyncio.sleep(0.005)
            self.longest_ms = max(self.longest_ms, (time.monotonic() - since) * 1000 - 5)


@asynccontextmanager
async def turns_are_short() -> AsyncIterator[Turns]:
    """Check that the event loop was not away, from `begin` of what this yields to the end of the block."""
    turns = Turns()
    async with standstill() as longest:
        began = time.monotonic()
        yield turns
        await turns.end()
        print(f"~~ {time.monotonic() - began:.1f} s, the longest turn {turns.longest_ms:.0f} ms")
    assert turns.longest_ms <= AWAY + longest[0]


async def test_slow_list_of_the_interfaces_keeps_no_peer_waiting(loopback: Loopback) -> None:
    heard = Listener(loopback, MULTICAST_INTERFACE, "v4")
    with busy_kernel() as begin:
        begin()
        async with turns_are_short() as turns:
            turns.begin()
            await heard.discovery.start()
    await heard.discovery.stop()


async def test_slow_join_of_the_group_keeps_no_peer_waiting(loopback: Loopback) -> None:
    with own_network("link set lo up", *bridge("lan", "10.1.0.1/24")), busy_kernel() as begin:
        async with turns_are_short() as turns:

            def keep_busy() -> None:
                begin()
                turns.begin()

            heard = Listener(loopback, "", "v4", keep_busy)
            await heard.discovery.start()
            configure(*bridge("later", "10.2.0.1/24"))  # mDNS starts again, on both
            await until(lambda: receives_in("later"), 30)
        await heard.discovery.stop()


async def test_slow_leave_of_the_group_keeps_no_peer_waiting(loopback: Loopback) -> None:
    heard = Listener(loopback, MULTICAST_INTERFACE, "v4")
    await heard.discovery.start()
    with busy_kernel() as begin:
        begin()
        async with turns_are_short() as turns:
            turns.begin()
            await heard.discovery.stop()


def receives_in(interface: str) -> bool:
    """Return whether the kernel receives the group of mDNS on an interface."""
    return socket.if_nametoindex(interface) in list_receiving(ip_address(IPV4_GROUP))
