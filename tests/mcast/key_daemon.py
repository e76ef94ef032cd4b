"""The daemon's end of `keys.sock`, played by the test over the real key socket."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pskkey.adapters.local.key_socket import KeySocket
from pskkey.core.events import Event, Received, Session
from pskkey.model import KeyAck, KeyNew, KeyState, KeyWatch


class KeyDaemon:
    """Tells each watcher its key state, and notes what watchers say."""

    def __init__(self, state: KeyState, sender_ids: tuple[int | None, ...]) -> None:
        self.acknowledged: list[list[int]] = []
        self.new_keys_asked: list[KeyNew] = []
        self.watches: list[KeyWatch] = []
        self._state = state
        self._sender_ids = sender_ids
        self._after_attach: KeyState | None = None
        self._sessions: list[Session] = []
        self._heard = asyncio.Event()
        self.socket = KeySocket((), (), self._handle, Counter())

    def tell(self, state: KeyState) -> None:
        """Send a new state to every watcher, each with its own sender id."""
        self._state = state
        for index in range(len(self._sessions)):
            self._tell(index)

    def tell_after_attach(self, state: KeyState) -> None:
        """Send `state` to the next watcher right after the state that it gets when it attaches."""
        self._after_attach = state

    def lease(self, *sender_ids: int | None) -> None:
        """Give the watchers these sender ids from the next state on."""
        self._sender_ids = sender_ids

    async def until_acknowledged(self, epoch: int) -> None:
        """Wait until every watcher has acknowledged `epoch`."""
        async with asyncio.timeout(5):
            while not all(epoch in epochs for epochs in self.acknowledged):
                self._heard.clear()
                await self._heard.wait()

    async def until_asked(self, times: int) -> None:
        """Wait until a new key was asked for so many times."""
        async with asyncio.timeout(5):
            while len(self.new_keys_asked) < times:
                self._heard.clear()
                await self._heard.wait()

    def _handle(self, event: Event) -> None:
        match event:
            case Received(session, KeyWatch() as watch):
                self.watches.append(watch)
                self.acknowledged.append([])
                self._sessions.append(session)
                self._tell(len(self._sessions) - 1)
                if self._after_attach is not None:
                    self._state, self._after_attach = self._after_attach, None
                    self._tell(len(self._sessions) - 1)
            case Received(session, KeyAck(epoch)):
                self.acknowledged[self._sessions.index(session)].append(epoch)
            case Received(_, KeyNew() as asked):
                self.new_keys_asked.append(asked)
            case _:
                return
        self._heard.set()

    def _tell(self, index: int) -> None:
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
