"""The socket on which a service manager receives the messages of its services (sd_notify(3))."""

import asyncio
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class NotifySocket:
    """A real NOTIFY_SOCKET, read as long as the event loop runs; `heard` has all received lines in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._passed = 0
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._loop.add_reader(self._socket, self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment that a service gets, with the path of the socket."""
        return {"NOTIFY_SOCKET": str(self.path)}

    def stop_reading(self) -> None:
        """Behave as a service manager that hangs."""
        self._loop.remove_reader(self._socket)

    def pass_over(self) -> None:
        """Let `until` look only at lines that come later."""
        self._passed = len(self.heard)

    async def until(self, start: str, within: float = 10.0) -> str:
        """Wait for a line, after those looked at before, that begins with `start`; return it. Raises TimeoutError."""
        deadline = time.monotonic() + within
        while True:
            while self._passed < len(self.heard):
                line = self.heard[self._passed]
                self._passed += 1
                if line.startswith(start):
                    return line
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {start} within {within} s, but {self.heard[-5:]}")
            await asyncio.sleep(0.01)

    def _read(self) -> None:
        self.heard += self._socket.recv(4096).decode().splitlines()
