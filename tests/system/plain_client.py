"""A plain TLS-PSK client that knows the protocol only from its description."""

import asyncio
import json
import os
from typing import Any

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import load_psk
from tests.lab.daemon import Daemon
from tests.system.loopback import PORT, Loopback

JOIN, GROUP, MERGE, ERROR, KEY_STATE = 16, 17, 19, 31, 3
WITHIN = 10.0

type Frame = tuple[int, bytes]


class PlainClient:
    """A TLS-PSK session, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, loopback: Loopback, daemon: Daemon) -> "PlainClient":
        context = client_context(load_psk(loopback.psk).active)
        return cls(*await asyncio.open_connection(loopback.address(daemon), PORT, ssl=context, server_hostname=""))

    def send(self, kind: int, payload: bytes | dict[str, Any]) -> None:
        """Send a frame: version 1, its type, the size of its payload, its payload."""
        encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._writer.write(bytes([1, kind]) + len(encoded).to_bytes(2) + encoded)

    async def receive(self, *kinds: int) -> Frame:
        """Return the next frame of one of these types."""
        async with asyncio.timeout(WITHIN):
            while True:
                header = await self._reader.readexactly(4)
                payload = await self._reader.readexactly(int.from_bytes(header[2:]))
                if header[1] in kinds:
                    return header[1], payload

    async def refusal(self) -> dict[str, Any]:
        """Return the ERROR that ends the session."""
        _, payload = await self.receive(ERROR)
        async with asyncio.timeout(WITHIN):
            assert await self._reader.read() == b""
        error: dict[str, Any] = json.loads(payload)
        return error

    def close(self) -> None:
        self._writer.close()


def join(loopback: Loopback, **more: Any) -> dict[str, Any]:
    """Return the JOIN of a node that does not send, with further fields."""
    member = {
        "id": os.urandom(8).hex(),
        "name": "later",
        "addresses": ["127.0.0.1"],
        "port": PORT,
        "priority": 1,
        "eligible": False,
        "sender_id": None,
        "acked_epoch": None,
    }
    return {
        "group": loopback.group,
        "member": member,
        "incarnation": "first",
        "term": 0,
        "held": [],
        "sender": False,
        "lease": None,
        "version": "9.9.9",
        "speaks": [1, 9],
        "times": {"heartbeat_interval": 0.5, "dead_after": 1.5},
        **more,
    }
