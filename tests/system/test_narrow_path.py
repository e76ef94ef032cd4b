"""Our TCP connections work on a path that drops packets of more than 1280 bytes, and reports nothing."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from pskkey import KeyClient, KeyServer
from pskkey.core.events import Accepted, Connected, Received
from pskkey.model import Group, Member
from tests.adapters.tls.ends import Ends
from tests.lab.namespaces import INTERFACE, Host, switch
from tests.psk_files import write_psk

SIZE: Final = 20_000
"""Bytes, more than a TCP connection sends before it gets an answer."""
ARRIVES_WITHIN: Final = 10.0
LOST_AFTER: Final = 2.0
"""Seconds. A whole transfer takes a few milliseconds."""

pytestmark = pytest.mark.root


@pytest.fixture
def path() -> Iterator[tuple[Host, Host]]:
    """Two hosts; the port of the second one takes no larger frames, and neither host learns of it."""
    with switch(2) as made:
        for host in made.hosts:
            # The kernel would let through a packet that a network card may still cut into segments.
            host.run("ip", "link", "set", INTERFACE, "gso_max_segs", "1")
        made.run("ip", "link", "set", made.hosts[1].port, "mtu", "1280")
        yield made.hosts[0], made.hosts[1]


@contextmanager
def on(host: Host) -> Iterator[None]:
    """Put the sockets that this thread makes in the block on a host."""
    former = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host.namespace}", os.O_RDONLY)
    try:
        os.setns(there, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(former, os.CLONE_NEWNET)
    finally:
        os.close(former)
        os.close(there)


def addresses(host: Host) -> tuple[str, str]:
    return host.ipv4, host.ipv6


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
async def test_group_arrives_at_a_member_behind_the_path(path: tuple[Host, Host], tmp_path: Path, version: int) -> None:
    ends = Ends(write_psk(tmp_path / "psk", "node", "spare"))
    members = tuple(Member(f"{number:032x}", "n" * 60, ("10.0.0.1",), 1) for number in range(SIZE // 100))
    group = Group(3, members[0].id, members, ())
    try:
        with on(path[0]):
            await ends.server.start([addresses(path[0])[version]], 0)
        with on(path[1]):
            mine = ends.connect(addresses(path[0])[version])
            assert (await ends.at_client.next(Connected)).session == mine
        ends.server.send((await ends.at_server.next(Accepted)).session, group)
        async with asyncio.timeout(ARRIVES_WITHIN):
            assert await ends.at_client.next(Received) == Received(mine, group)
    finally:
        await ends.client.stop()
        await ends.server.stop()


@pytest.mark.parametrize("ours", [0, 1], ids=["server before the path", "server behind the path"])
def test_key_client_sends_and_gets_long_messages(path: tuple[Host, Host], tmp_path: Path, ours: int) -> None:
    server_host, client_host = path[ours], path[1 - ours]
    psk = write_psk(tmp_path / "psk", "node")
    server = KeyServer(psk, server_host.ipv4, 0, handlers={2: bytes.swapcase})

    def serve() -> None:
        with on(server_host):
            server.run()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert server.wait_until_running(ARRIVES_WITHIN)
        with on(client_host):
            client = KeyClient(psk, port=server.port, timeout=ARRIVES_WITHIN)
            assert client.get(server_host.ipv4, 2, b"x" * SIZE) == b"X" * SIZE
    finally:
        server.stop()
        thread.join(ARRIVES_WITHIN)


def test_connections_with_the_usual_segments_do_not_work_on_the_path(path: tuple[Host, Host]) -> None:
    with on(path[0]):
        listening = socket.create_server((path[0].ipv4, 0))
    with on(path[1]):
        connected = socket.create_connection(listening.getsockname(), ARRIVES_WITHIN)
    with listening, connected, listening.accept()[0] as accepted:
        accepted.sendall(b"x" * SIZE)
        connected.settimeout(LOST_AFTER)
        with pytest.raises(TimeoutError):
            connected.recv(1)
