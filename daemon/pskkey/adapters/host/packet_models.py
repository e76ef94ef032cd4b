"""Builds the codecs of all packets at the start. Each kind of packet takes about 10 ms of processor time."""

import asyncio

from pskkey.wire.fields import build_packets


async def build_packet_models() -> None:
    """Build the models of all packets, one in each turn of the event loop, before a session needs them."""
    for _ in build_packets():
        await asyncio.sleep(0)
