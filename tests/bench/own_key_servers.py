"""One of our key servers in a process of its own: `python -m tests.bench.own_key_servers NAME PSK_FILE`.

It serves a fresh key, and prints its port of 127.0.0.1.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from pskkey.adapters.host.entropy import random_key
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.config.psk import PskFile, load_psk
from pskkey.core.events import Event, Received
from pskkey.keyserver.request_server import RequestServer
from pskkey.model import KeyResponse, Suite


async def _serve_stand_alone(psk: PskFile) -> int:
    server = RequestServer(psk, random_key(Suite.PSK_CHACHA20_POLY1305), False, {}, lambda _: None)
    await server.start(["127.0.0.1"], 0)
    return server.addresses[0][1]


async def _serve_sessions(psk: PskFile) -> int:
    key = KeyResponse(random_key(Suite.PSK_CHACHA20_POLY1305))

    def answer(event: Event) -> None:
        if isinstance(event, Received):
            server.send(event.session, key)

    server = InboundSessions("0" * 16, lambda: psk, False, ServerLimits(), answer, Counter())
    await server.start(["127.0.0.1"], 0)
    return server.port or 0


SERVERS: Final[dict[str, Callable[[PskFile], Awaitable[int]]]] = {
    "pskkey-server": _serve_stand_alone,
    "inbound sessions": _serve_sessions,
}
"""Each starts a server on a free port of 127.0.0.1, and returns the port."""


async def _run(name: str, psk: PskFile) -> None:
    print(await SERVERS[name](psk), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], load_psk(Path(sys.argv[2]))))
