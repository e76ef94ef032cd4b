"""The Python session manager of `keys.sock`: follows the key state of the local daemon.

`KeyWatcher` blocks, `AsyncKeyWatcher` awaits; both use `WatcherConversation`, which does no I/O. A watcher
tries to connect again while the daemon is away: a session manager may start before the daemon and survive its restarts.
"""

import asyncio
import os
import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pskkey.client.socket_access import describe_access
from pskkey.client.watch_protocol import WatcherConversation
from pskkey.errors import BadPacket
from pskkey.model import KeyNewReason, KeyState

READ_SIZE: Final = 65536


class KeyWatcher:
    """Follows the key state of the local daemon, blocking. Only one thread may use it at a time.

    with KeyWatcher(will_send=True) as watcher:
        while True:
            state = watcher.wait()
            ...                       # install what is new, drop what is no longer listed
            for entry in state.entries:
                watcher.acknowledge(entry.epoch)
    """

    def __init__(self, path: Path | str | None = None, will_send: bool = False) -> None:
        """Watch the socket at `path`; None: the one that PSKKEY_KEYS_SOCKET names, else /run/pskkey/keys.sock.

        `will_send`: we are going to send in the group, so the daemon gets a sender id for us.
        """
        self._conversation = WatcherConversation(path, will_send)
        self._socket: socket.socket | None = None
        self._outgoing = bytearray()
        self._epoll = select.epoll()
        # Readable when it is time to connect again, so that one descriptor, `fileno`, covers every event.
        self._timer = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        self._epoll.register(self._timer, select.EPOLLIN)
        os.timerfd_settime_ns(self._timer, initial=1)

    def wait(self, timeout: float | None = None) -> KeyState:
        """Return the key state: at first the present one, later the next that differs from the one returned last.

        Of several changes since then only the newest is returned. `timeout` is in seconds, None for ever; 0 does
        not wait. Raises TimeoutError, whose text states the cause, and PeerError when we may not read keys.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._epoll.poll(remaining)
            for descriptor, _ in ready:
                self._timer_expired() if descriptor == self._timer else self._exchange()
            state = self._conversation.take_new_state()
            if state is not None:
                return state
            if not ready and remaining == 0.0:
                raise self._conversation.make_timeout_error()

    @property
    def earlier_keys(self) -> frozenset[tuple[int, str]]:
        """Epoch and fingerprint of each key that others may have sent with before this watcher began.

        They are those of the first state that the daemon sent, without unused keys; empty before. A program with empty
        replay windows, as `pskkey.mcast`, does not receive with them and asks for a new key (RECEIVER_BEGAN).
        """
        return self._conversation.earlier_keys or frozenset()

    def acknowledge(self, epoch: int) -> None:
        """Report to the daemon that the key of `epoch` is installed for reception. This holds across reconnects."""
        self._send(self._conversation.acknowledge(epoch))

    def request_new_key(self, reason: KeyNewReason = KeyNewReason.OPERATOR) -> None:
        """Ask the group for a new key; the state that has it comes from `wait`."""
        self._send(self._conversation.request_new_key(reason))

    def request_state(self) -> None:
        """Ask the daemon to send its state again, at once: we received something that the state does not explain."""
        self._send(self._conversation.request_state())

    def fileno(self) -> int:
        """Return a descriptor for `select` that is readable when `wait(0)` has something to do.

        It stays the same across reconnects. `wait(0)` may raise TimeoutError all the same.
        """
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the connection. Afterwards only `close` may be called."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._timer)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _timer_expired(self) -> None:
        try:
            os.read(self._timer, 8)
        except BlockingIOError:
            return
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # no file descriptor is left
            self._retry(_sentence(error))
            return
        try:
            connection.connect(os.fspath(self._conversation.path))
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError):
                self._conversation.note_denial(f"permission denied; {describe_access(self._conversation.path)}")
            self._retry(_sentence(error))
            return
        self._socket = connection
        self._epoll.register(connection, select.EPOLLIN)
        self._send(self._conversation.begin_connection())

    def _exchange(self) -> None:
        """Read all bytes that have come, and write the bytes that wait."""
        self._send(b"")
        try:
            while self._socket is not None:
                data = self._socket.recv(READ_SIZE)
                if not data:
                    self._lose("the daemon closed the connection")
                    return
                self._send(self._conversation.receive_untrusted(data))
        except BlockingIOError:
            return
        except (BadPacket, OSError) as error:
            self._lose(_sentence(error))

    def _send(self, data: bytes) -> None:
        self._outgoing += data
        if self._socket is None:
            return
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            # The daemon may have sent the cause before it closed. Reading finds the cause and the end, and cleans up.
            self._outgoing.clear()
        events = select.EPOLLIN | (select.EPOLLOUT if self._outgoing else 0)
        self._epoll.modify(self._socket, events)

    def _lose(self, reason: str) -> None:
        if self._socket is not None:
            self._epoll.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self._outgoing.clear()
        self._retry(reason)

    def _retry(self, reason: str) -> None:
        os.timerfd_settime(self._timer, initial=self._conversation.end_connection(reason))


class AsyncKeyWatcher:
    """Follows the key state of the local daemon in asyncio, like KeyWatcher; it works only while `wait` is awaited."""

    def __init__(self, path: Path | str | None = None, will_send: bool = False) -> None:
        """Take the same as KeyWatcher."""
        self._conversation = WatcherConversation(path, will_send)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._retry_at = 0.0

    async def wait(self, timeout: float | None = None) -> KeyState:
        """Return the present key state, later the next one that differs, as `KeyWatcher.wait` does.

        It may be cancelled and called again. Raises TimeoutError after `timeout` seconds, and PeerError.
        """
        try:
            async with asyncio.timeout(timeout):
                while (state := self._conversation.take_new_state()) is None:
                    await self._step()
        except TimeoutError:
            raise self._conversation.make_timeout_error() from None
        return state

    @property
    def earlier_keys(self) -> frozenset[tuple[int, str]]:
        """Epoch and fingerprint of each key that others may have sent with before this watcher began.

        They are those of the first state that the daemon sent, without unused keys; empty before. A program with empty
        replay windows, as `pskkey.mcast`, does not receive with them and asks for a new key (RECEIVER_BEGAN).
        """
        return self._conversation.earlier_keys or frozenset()

    def acknowledge(self, epoch: int) -> None:
        """Report to the daemon that the key of `epoch` is installed for reception. This holds across reconnects."""
        self._send(self._conversation.acknowledge(epoch))

    def request_new_key(self, reason: KeyNewReason = KeyNewReason.OPERATOR) -> None:
        """Ask the group for a new key; the state that has it comes from `wait`."""
        self._send(self._conversation.request_new_key(reason))

    def request_state(self) -> None:
        """Ask the daemon to send its state again, at once: we received something that the state does not explain."""
        self._send(self._conversation.request_state())

    async def close(self) -> None:
        """Close the connection."""
        self._abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _step(self) -> None:
        """Wait for one thing to happen: bytes from the daemon, or a new connection to it."""
        if self._reader is None:
            await asyncio.sleep(max(0.0, self._retry_at - time.monotonic()))
        try:
            if self._reader is None:
                path = os.fspath(self._conversation.path)
                self._reader, self._writer = await asyncio.open_unix_connection(path)
                self._writer.write(self._conversation.begin_connection())
            data = await self._reader.read(READ_SIZE)
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            self._send(self._conversation.receive_untrusted(data))
        except (BadPacket, OSError) as error:
            if isinstance(error, PermissionError):
                self._conversation.note_denial(f"permission denied; {describe_access(self._conversation.path)}")
            self._abandon()
            self._retry_at = time.monotonic() + self._conversation.end_connection(_sentence(error))

    def _send(self, data: bytes) -> None:
        if self._writer is not None and data:
            self._writer.write(data)

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def _sentence(error: BadPacket | OSError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
