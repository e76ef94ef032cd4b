"""A session manager of multicast DTLS, to be recorded: `python -m tests.hostile.multicast_peer ROLE KEYS ADDRESS`.

ROLE is `send` or `receive`, KEYS the path of `keys.sock`, ADDRESS that of the interface. It writes `ready` when it
can send or receive, and at the end of standard input how many messages it has sent, or accepted as genuine.
"""

import asyncio
import sys
from typing import Final

import pskkey.mcast

GROUP: Final = "239.255.77.7"
PORT: Final = 20077
MESSAGE_EVERY: Final = 0.02
"""Seconds between two messages."""


async def _work(role: str, keys: str, address: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    count = 0
    will_send = role == "send"
    async with pskkey.mcast.join(GROUP, PORT, path=keys, interface=address, will_send=will_send) as session:
        if will_send:
            await session.ready()
        print("ready", flush=True)
        while not ended.is_set():
            if will_send:
                session.send(b"message %d" % count)
                count += 1
                await asyncio.sleep(MESSAGE_EVERY)
                continue
            try:
                async with asyncio.timeout(MESSAGE_EVERY):
                    await session.receive()
                count += 1
            except TimeoutError:
                continue
    print(count, flush=True)


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
