"""A multicast endpoint that hears itself, and waits for what happens to its interface."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pskkey.mcast import MulticastEndpoint

PORT = 12345
LATEST = 5.0
"""Seconds within which an expected change must happen."""


class Member:
    """An endpoint that hears itself, and records what it hears."""

    def __init__(self, group: str, interface: str | None) -> None:
        self.heard: list[bytes] = []
        self._changed = asyncio.Event()
        self.endpoint = MulticastEndpoint(
            group, PORT, self._take, interface=interface, interface_changed=self._changed.set
        )

    def __getitem__(self, counter: str) -> int:
        return self.endpoint.counters[counter]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LATEST):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_gone(self) -> None:
        await self.until(lambda: self["interface_lost"] > 0)
        assert not self.endpoint.has_interface

    async def until_rejoined(self, times: int = 1) -> None:
        await self.until(lambda: self["rejoined"] >= times and self.endpoint.has_interface)

    async def check_hears(self, text: bytes) -> None:
        assert self.endpoint.send(text)
        await self.until(lambda: text in self.heard)

    def _take(self, datagrams: object) -> None:
        assert isinstance(datagrams, list)
        self.heard += datagrams
        self._changed.set()


@asynccontextmanager
async def member(group: str, interface: str | None) -> AsyncIterator[Member]:
    made = Member(group, interface)
    with made.endpoint:
        yield made
