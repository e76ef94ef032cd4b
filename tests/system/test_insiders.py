"""Limits for an insider, a node with the PSK: one node per session, and a share of the sender ids for each address."""

import asyncio
import os
from collections import deque

from pskkey.adapters.tls.contexts import client_context
from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.config.psk import load_psk
from pskkey.model import ErrorMessage, Group, Join, KeyState, Member, Message
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.lab.daemon import Daemon
from tests.system.loopback import PORT, Loopback
from tests.system.starting import one_daemon, status_of

FROM = "127.0.0.2"
"""The source address of the insider. Daemons on loopback connect from 127.0.0.1."""
LIMIT = 3
WITHIN = 10.0


class Insider:
    """One TLS session with a daemon, of a peer that has the PSK."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: str) -> None:
        self._reader = reader
        self._writer = writer
        self._group = group
        self._packets = PacketReader(Channel.TLS, Side.CLIENT)
        self._waiting: deque[Message] = deque()

    @classmethod
    async def connect(cls, loopback: Loopback, daemon: Daemon) -> "Insider":
        """Connect to a daemon by TLS, with the PSK."""
        context = client_context(load_psk(loopback.psk).active)
        reader, writer = await asyncio.open_connection(
            loopback.address(daemon), PORT, ssl=context, server_hostname="", local_addr=(FROM, 0)
        )
        return cls(reader, writer, loopback.group)

    def join(self) -> None:
        """Send the JOIN of a new node that sends."""
        me = Member(os.urandom(8).hex(), "insider", (FROM,), PORT)
        message = Join(self._group, me, os.urandom(8).hex(), 0, (), sender=True, lease=None)
        self._writer.write(encode(message))

    async def until[M: Message](self, kind: type[M]) -> M:
        """Return the next message of this kind."""
        async with asyncio.timeout(WITHIN):
            while True:
                while self._waiting:
                    if isinstance(message := self._waiting.popleft(), kind):
                        return message
                data = await self._reader.read(65536)
                assert data, f"the session ended without {kind.__name__}"
                self._waiting.extend(self._packets.receive_untrusted(data))

    async def ended(self) -> None:
        """Wait until the daemon has closed the session."""
        async with asyncio.timeout(WITHIN):
            while await self._reader.read(65536):
                pass

    def close(self) -> None:
        """End the session."""
        self._writer.close()


async def test_a_session_that_joins_as_another_node_ends_and_has_got_one_lease(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    insider = await Insider.connect(loopback, daemon)
    insider.join()
    await insider.until(Group)
    insider.join()
    error = await insider.until(ErrorMessage)
    assert error.code == "protocol"
    assert "this session is of node" in error.message
    await insider.ended()
    assert [member["id"] for member in (await status_of(daemon))["members"]] == [daemon.id]
    async with AsyncKeyWatcher(daemon.keys_socket, will_send=True) as watcher:
        state = await watcher.wait(WITHIN)
    assert len(state.senders) <= 2, "one of the insider, one of the daemon"


async def test_an_address_gets_its_share_of_sender_ids_however_often_it_connects(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback, {"limits": {"connections_per_address": LIMIT}})
    for _ in range(LIMIT):
        insider = await Insider.connect(loopback, daemon)
        insider.join()
        await insider.until(Group)
        assert (await insider.until(KeyState)).sender_id is not None
        insider.close()
        await insider.ended()
    insider = await Insider.connect(loopback, daemon)
    insider.join()
    error = await insider.until(ErrorMessage)
    assert error.code == "group_full"
    assert f"{LIMIT} nodes from {FROM} are members or have sender ids" in error.message
    insider.close()
    other = loopback.daemon("n2")
    other.start()
    async with AsyncKeyWatcher(other.keys_socket, will_send=True) as watcher:
        while (state := await watcher.wait(WITHIN)).sender_id is None:
            continue
    assert len(state.senders) == LIMIT + 1
