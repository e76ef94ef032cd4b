"""The socket on which a service manager hears from its services (sd_notify(3))."""

import asyncio
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class NotifySocket:
    """A real NOTIFY_SOCKET; `heard` is every line that came, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a service gets to know of the socket."""
        return {"NOTIFY_SOCKET": str(self.path)}

    def drain(self) -> None:
        """Take all that has come so far."""
        try:
            while True:
                self.heard += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return

    async def until(self, start: str, within: float = 10.0) -> str:
        """Wait for a line, after those read before, that begins with `start`; return it."""
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + within
        while True:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                datagram = await loop.sock_recv(self._socket, 4096)
            lines = datagram.decode().splitlines()
            self.heard += lines
            for line in lines:
                if line.startswith(start):
                    return line
