"""A bare key server: asyncio's TLS-PSK in a process that loads nothing else.

It has one TLS context for all connections, answers with a key message that it has ready, and knows neither clients nor
limits. Standard input is one JSON object: `keys` (each PSK in hex by its identity), `curve`, `question` (the bytes of a
request) and `answer` (hex). It prints its port of 127.0.0.1.
"""

import asyncio
import json
import ssl
import sys
from typing import TypedDict


class Settings(TypedDict):
    """Standard input."""

    keys: dict[str, str]
    curve: str
    question: int
    answer: str


async def _serve(settings: Settings) -> None:
    keys = {identity: bytes.fromhex(key) for identity, key in settings["keys"].items()}
    message = bytes.fromhex(settings["answer"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ecdh_curve(settings["curve"])
    context.num_tickets = 0
    context.set_psk_server_callback(lambda identity: keys[identity or ""])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(settings["question"]):
            writer.write(message)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.stdin.read())))
