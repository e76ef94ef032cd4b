"""The daemon's end of `keys.sock`: the test plays the daemon over the real key socket."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pskkey.adapters.local.key_socket import KeySocket
from pskkey.core.events import Event, Received, Session
from pskkey.model import KeyAck, KeyNew, KeyState, KeyWatch


class KeyDaemon:
    """Sends each watcher its key state, and notes the messages of the watchers."""

    def __init__(self, state: KeyState, sender_ids: tuple[int | None, ...]) -> None:
        self.acknowledged: list[list[int]] = []
        self.key_requests: list[KeyNew] = []
        self.watches: list[KeyWatch] = []
        self._state = state
        self._sender_ids = sender_ids
        self._after_attach: KeyState | None = None
        self._sessions: list[Session] = []
        self._received = asyncio.Event()
        self.socket = KeySocket((), (), self._handle, Counter())

    def publish(self, state: KeyState) -> None:
        """Send a new state to every watcher, each with its own sender id."""
        self._state = state
        for index in range(len(self._sessions)):
            self._send_state(index)

    def publish_after_attach(self, state: KeyState) -> None:
        """Send `state` to the next watcher right after the first state that it gets."""
        self._after_attach = state

    def lease(self, *sender_ids: int | None) -> None:
        """Give the watchers these sender ids from the next state on."""
        self._sender_ids = sender_ids

    async def until_acknowledged(self, epoch: int) -> None:
        """Wait until every watcher has acknowledged `epoch`."""
        async with asyncio.timeout(5):
            while not all(epoch in epochs for epochs in self.acknowledged):
                self._received.clear()
                await self._received.wait()

    async def until_requested(self, times: int) -> None:
        """Wait until watchers have asked for a new key `times` times."""
        async with asyncio.timeout(5):
            while len(self.key_requests) < times:
                self._received.clear()
                await self._received.wait()

    def _handle(self, event: Event) -> None:
        match event:
            case Received(session, KeyWatch() as watch):
                self.watches.append(watch)
                self.acknowledged.append([])
                self._sessions.append(session)
                self._send_state(len(self._sessions) - 1)
                if self._after_attach is not None:
                    self._state, self._after_attach = self._after_attach, None
                    self._send_state(len(self._sessions) - 1)
            case Received(session, KeyAck(epoch)):
                self.acknowledged[self._sessions.index(session)].append(epoch)
            case Received(_, KeyNew() as asked):
                self.key_requests.append(asked)
            case _:
                return
        self._received.set()

    def _send_state(self, index: int) -> None:
        senders = frozenset(sender for sender in self._sender_ids if sender is not None)
        state = KeyState(self._sender_ids[index], senders, self._state.entries)
        self.socket.send(self._sessions[index], state)


@asynccontextmanager
async def key_daemon(path: Path, state: KeyState, *sender_ids: int | None) -> AsyncIterator[KeyDaemon]:
    """Serve `state` at `path`; the first watcher gets the first sender id, and so on."""
    daemon = KeyDaemon(state, sender_ids)
    await daemon.socket.start(path)
    try:
        yield daemon
    finally:
        await daemon.socket.stop()
