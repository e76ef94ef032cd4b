"""A running group moves to a new pre-shared key: by the documented steps, and without one of them."""

import asyncio
import secrets
import signal
import socket
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import generate_psk_line, load_psk
from pskkey.mcast import JoinedGroup, join
from tests.lab.daemon import PSKKEYD, Control, Daemon, Status
from tests.lab.group import key_of
from tests.system.loopback import PORT, Loopback
from tests.system.reloading import edit, reload, until
from tests.system.starting import in_order, nodes, psk_of

RATE = 50.0
_PAYLOAD = struct.Struct(">BI")


class Peer:
    """A session manager of one node: it sends a counter at 50 Hz and records the counters of the others."""

    def __init__(self, number: int, session: JoinedGroup) -> None:
        self.number = number
        self.session = session
        self.sent = 0
        self.heard: dict[int, set[int]] = defaultdict(set)

    async def send(self) -> None:
        begun = time.monotonic()
        while True:
            await asyncio.sleep(begun + self.sent / RATE - time.monotonic())
            assert self.session.send(_PAYLOAD.pack(self.number, self.sent))
            self.sent += 1

    async def receive(self) -> None:
        async for message in self.session:
            sender, count = _PAYLOAD.unpack(message.plaintext)
            self.heard[sender].add(count)


@asynccontextmanager
async def streaming(daemons: Sequence[Daemon]) -> AsyncIterator[list[Peer]]:
    """Run a session manager beside each daemon. All send to one group."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    async with AsyncExitStack() as stack:
        peers = []
        for number, daemon in enumerate(daemons):
            joining = join("239.255.83.2", port, interface="127.0.0.1", path=daemon.keys_socket, timeout=10)
            peers.append(Peer(number, await stack.enter_async_context(joining)))
        async with asyncio.timeout(15):
            for peer in peers:
                await peer.session.ready()
        tasks = [asyncio.create_task(work) for peer in peers for work in (peer.receive(), peer.send())]
        try:
            yield peers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Watch:
    """Polls daemons all the time, and records each state that they report."""

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        self._controls = [Control(daemon.control_socket) for daemon in daemons]
        self.states: set[tuple[object, ...]] = set()

    async def run(self) -> None:
        try:
            while True:
                found = await asyncio.gather(*(control.status() for control in self._controls))
                self.states.update(self.state(status) for status in found if status is not None)
                await asyncio.sleep(0.01)
        finally:
            for control in self._controls:
                control.close()

    @staticmethod
    def state(status: Status) -> tuple[object, ...]:
        """Return the part of a status that must not change."""
        return (status["node"]["name"], status["role"], status["term"], key_of(status), status["sender_id"])


async def key_client(address: str, psk: Path) -> int:
    """Fetch the key with a PSK; return the exit code."""
    command = [PSKKEYD.with_name("pskkey-client"), "--psk-file", psk, "--port", str(PORT), address]
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode


async def test_the_documented_steps_interrupt_nothing(loopback: Loopback) -> None:
    old, new = (generate_psk_line(identity) + "\n" for identity in ("old", "new"))
    daemons = nodes(loopback, old)
    group = await in_order(daemons)
    old_file, new_file = loopback.directory / "old", loopback.directory / "new"
    for path, line in ((old_file, old), (new_file, new)):
        path.touch(0o600)
        path.write_text(line)
    address = loopback.address(daemons[0])
    async with streaming(daemons) as peers:
        await asyncio.sleep(1)
        _, statuses = await group.together(5)
        before = {Watch.state(status) for status in statuses.values() if status is not None}
        first = [peer.sent for peer in peers]
        watch = Watch(daemons)
        watching = asyncio.create_task(watch.run())
        sizes = {daemon.name: len(daemon.log) for daemon in daemons}
        stayed = await asyncio.open_connection(
            address, PORT, ssl=client_context(load_psk(old_file).active), server_hostname=""
        )
        # 1. add the new line below the old one; 2. put it first; 3. remove the old one. Each on every node, one by one.
        for content, answer in (
            (old + new, "2 identities accepted, 'old' in use"),
            (new + old, "2 identities accepted, 'new' in use"),
            (new, "1 identity accepted, 'new' in use"),
        ):
            for daemon in daemons:
                size = len(daemon.log)
                psk_of(daemon).write_text(content)
                await reload(daemon, answer)
                if content == new + old and daemon is not daemons[0]:
                    await until(daemon, "the session with n0 goes on with PSK identity 'new'", size)
            if content != new:
                assert await key_client(address, old_file) == 0
            await group.stay_together(0.5)
        assert await key_client(address, old_file) == 4
        assert await key_client(address, new_file) == 0
        # A session with the old key gets ERROR (type 31), and ends.
        packet = await asyncio.wait_for(stayed[0].read(), 5)
        assert packet[:2] == b"\x01\x1f"
        assert b"psk_removed" in packet
        stayed[1].close()
        last = [peer.sent for peer in peers]
        await asyncio.sleep(0.5)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert watch.states == before
    for daemon in daemons:
        log = daemon.log[sizes[daemon.name] :]
        for trouble in ("lost master", " left: ", "could not join", "->", "Traceback", "for now"):
            assert trouble not in log
        assert " joined from " not in log
    for sender, (begin, end) in enumerate(zip(first, last, strict=True)):
        assert end - begin > 3 * RATE
        for peer in peers:
            if peer.number != sender:
                assert not set(range(begin, end)) - peer.heard[sender]
    status = await daemons[0].status()
    assert status is not None
    assert status["counters"]["adverts_rejected"] == 0
    # The new group is complete: a node that starts now finds it.
    await daemons[2].stop()
    daemons[2].start()
    await group.together(15)


async def test_client_leaves_a_master_that_has_only_the_removed_key(loopback: Loopback) -> None:
    old, new = (generate_psk_line(identity) + "\n" for identity in ("old", "new"))
    master, client = daemons = nodes(loopback, old, 2)
    group = await in_order(daemons)
    # The client uses the new key before the master has it. The session stays while the client accepts the old one.
    psk_of(client).write_text(new + old)
    await reload(client, "the session with n0 goes on with PSK identity 'old' for now: ")
    await group.stay_together(1)
    psk_of(client).write_text(new)
    await reload(client, "lost master n0: its PSK, identity 'old', was removed from our PSK file")
    await until(client, "we are master")
    psk_of(master).write_text(new)
    await reload(master, "1 identity accepted")
    await group.together(15)


async def test_session_moves_as_soon_as_the_master_accepts_the_new_key(loopback: Loopback) -> None:
    old, new = (generate_psk_line(identity) + "\n" for identity in ("old", "new"))
    master, client = daemons = nodes(loopback, old, 2)
    group = await in_order(daemons)
    psk_of(client).write_text(new + old)
    await reload(client, "for now")
    psk_of(master).write_text(old + new)
    await reload(master, "2 identities accepted")
    await until(client, "the session with n0 goes on with PSK identity 'new'")
    psk_of(master).write_text(new)
    await reload(master, "1 identity accepted")
    await group.stay_together(1)
    assert "lost master" not in client.log
    assert " left: " not in master.log


async def test_changed_key_with_the_same_identity_is_another_key(loopback: Loopback) -> None:
    master, client = daemons = nodes(loopback, f"same:{secrets.token_hex(32)}\n", 2)
    group = await in_order(daemons)
    line = f"same:{secrets.token_hex(32)}\n"
    psk_of(master).write_text(line)
    await reload(master, "n1 left: its PSK, identity 'same', was removed from our PSK file")
    psk_of(client).write_text(line)
    await reload(client, "1 identity accepted")
    await group.together(15)


async def test_client_without_a_place_for_its_new_session_keeps_the_old_one(loopback: Loopback) -> None:
    """All clients renew at once: first with one spare place, then without one, until a reload adds it."""
    old, new = (generate_psk_line(identity) + "\n" for identity in ("old", "new"))
    master, *clients = daemons = nodes(loopback, old + new, 4)
    group = await in_order(daemons)
    for active, other, identity, places in ((new, old, "new", len(clients) + 1), (old, new, "old", len(clients))):
        edit(master, {"limits": {"connections": places}})
        psk_of(master).write_text(active + other)
        await reload(master)
        sizes = {daemon.name: len(daemon.log) for daemon in daemons}
        for client in clients:
            psk_of(client).write_text(active + other)
            client.signal(signal.SIGHUP)
        if places == len(clients):
            for client in clients:
                log = await until(client, "for now: ", sizes[client.name])
                assert "no place for another connection" in log
            await group.stay_together(3)
            for client in clients:
                assert (
                    f"the session with n0 goes on with PSK identity {identity!r}\n"
                    not in client.log[sizes[client.name] :]
                )
            edit(master, {"limits": {"connections": places + 1}})
            await reload(master)
        for client in clients:
            await until(client, f"the session with n0 goes on with PSK identity {identity!r}\n", sizes[client.name], 30)
        await group.stay_together(2)
    for daemon in daemons:
        for trouble in ("lost master", " left: ", "could not join", "Traceback"):
            assert trouble not in daemon.log
