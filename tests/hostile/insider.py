"""An insider that has the PSK and speaks TLS as a member does: `python -m tests.hostile.insider ORDERS`.

Orders: `kind` (heartbeats, joins), `psk` (a file), `group`, `targets` (address and port), `bytes_per_second`.
"""

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import Any, Final

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import Psk, load_psk
from pskkey.model import Heartbeat, Join, Member
from pskkey.wire.packet import encode
from tests.hostile.attacker import Sent, orders, report
from tests.hostile.connections import until_input_ends

SESSIONS: Final = 8
BURST: Final = 1024
"""Heartbeats in one write."""
IDS_OF_A_SESSION: Final = 64
"""Members that one session invents before it is closed."""
PATIENCE: Final = 3.0
"""Seconds to connect, and seconds that a server may accept no data."""
PAUSE: Final = 0.1
"""Seconds from the end of a session to the connection to the next server."""


def join(group: str) -> bytes:
    """Return a JOIN of a node that does not exist, which requests to send."""
    node_id = f"{random.getrandbits(128):032x}"
    member = Member(node_id, "invented", ("10.83.0.99",), 11111)
    return encode(Join(group, member, node_id[:16], 0, (), True, None))


class Insider:
    """Sessions that together send at a given rate."""

    def __init__(self, read: dict[str, Any], sent: Sent) -> None:
        self._kind: str = read["kind"]
        self._group: str = read["group"]
        self._targets: list[tuple[str, int]] = read["targets"]
        self._rate = read["bytes_per_second"] / SESSIONS
        self._psk: Psk = load_psk(Path(read["psk"])).active
        self._sent = sent

    async def run(self) -> None:
        """Attack until cancelled."""
        await asyncio.gather(*(self._repeat(number) for number in range(SESSIONS)))

    async def _repeat(self, number: int) -> None:
        while True:
            address, port = self._targets[number % len(self._targets)]
            try:
                async with asyncio.timeout(PATIENCE):
                    context = client_context(self._psk)
                    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname="")
                with contextlib.closing(writer):
                    await self._talk(reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self._sent.refused += 1
            number += 1  # this server is no master, or refuses us
            await asyncio.sleep(PAUSE)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._write(writer, join(self._group), 1)
        swallowing = asyncio.create_task(_swallow(reader))
        try:
            for _ in range(IDS_OF_A_SESSION) if self._kind == "joins" else iter(int, 1):
                if swallowing.done():
                    return
                if self._kind == "joins":
                    await self._write(writer, join(self._group), 1)
                else:
                    await self._write(writer, encode(Heartbeat()) * BURST, BURST)
        finally:
            swallowing.cancel()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, packets: int) -> None:
        began = time.monotonic()
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await writer.drain()
        self._sent.packets += packets
        self._sent.bytes += len(data)
        await asyncio.sleep(max(0.0, began + len(data) / self._rate - time.monotonic()))


async def _swallow(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(1 << 16):
            pass


async def _run(read: dict[str, Any], sent: Sent) -> None:
    await until_input_ends(asyncio.create_task(Insider(read, sent).run()))


def main() -> None:
    """Attack until standard input ends."""
    read, sent = orders(), Sent()
    asyncio.run(_run(read, sent))
    report(sent)


if __name__ == "__main__":
    main()
