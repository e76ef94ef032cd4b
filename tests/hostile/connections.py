"""A stranger that connects to the key servers: `python -m tests.hostile.connections ORDERS`.

Orders: `kind` (half-open, wrong-psk, tls-garbage), `targets` (address and port), `per_second` (connections).
"""

import asyncio
import contextlib
import os
import resource
import sys
import time
from collections import deque
from typing import Any, Final

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import Psk
from pskkey.secret import Secret
from tests.hostile.attacker import Sent, orders, report

HELD: Final = 1500
"""Half-open connections that are held; when there are more, the oldest is closed."""
PATIENCE: Final = 3.0
"""Seconds for one connection."""
GARBAGE_SIZE: Final = 2000
"""Bytes."""
BUSY: Final = 64
"""Connections at one time, without those that are held."""


async def attack(read: dict[str, Any], sent: Sent) -> None:
    """Open connections at a rate until cancelled."""
    held: deque[asyncio.StreamWriter] = deque()
    busy: set[asyncio.Task[None]] = set()
    began, number = time.monotonic(), 0
    while True:
        while number < (time.monotonic() - began) * read["per_second"]:
            address, port = read["targets"][number % len(read["targets"])]
            number += 1
            if len(busy) >= BUSY:
                continue
            task = asyncio.create_task(_connect(read["kind"], address, port, held, sent))
            busy.add(task)
            task.add_done_callback(busy.discard)
        while len(held) > HELD:
            held.popleft().close()
        await asyncio.sleep(0.01)


async def _connect(kind: str, address: str, port: int, held: deque[asyncio.StreamWriter], sent: Sent) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            if kind == "wrong-psk":
                wrong = client_context(Psk("group", Secret(os.urandom(32))))
                sent.packets += 1
                reader, writer = await asyncio.open_connection(address, port, ssl=wrong, server_hostname="")
            else:
                reader, writer = await asyncio.open_connection(address, port)
                sent.packets += 1
            if kind == "half-open":
                held.append(writer)
                return
            with contextlib.closing(writer):
                writer.write(os.urandom(GARBAGE_SIZE))
                sent.bytes += GARBAGE_SIZE
                await reader.read()
    except (OSError, TimeoutError):
        sent.refused += 1


async def until_input_ends(attacking: asyncio.Task[None]) -> None:
    """Run the attack until standard input ends. Raises the errors of the attack."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait((waiting, attacking), return_when=asyncio.FIRST_COMPLETED)
    if attacking.done():
        attacking.result()
    attacking.cancel()
    await asyncio.gather(attacking, return_exceptions=True)


async def _run(read: dict[str, Any], sent: Sent) -> None:
    await until_input_ends(asyncio.create_task(attack(read, sent)))


def main() -> None:
    """Attack until standard input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * HELD), most))
    read, sent = orders(), Sent()
    asyncio.run(_run(read, sent))
    report(sent)


if __name__ == "__main__":
    main()
