"""The Python consumer of `keys.sock`: follows the key state of the local daemon.

`KeyWatcher` blocks, `AsyncKeyWatcher` awaits; both speak through `_Conversation`, which does no I/O. A watcher keeps
trying while the daemon is away: a session manager may start before it and live through its restarts.
"""

import asyncio
import logging
import os
import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pskkey.errors import BadPacket, PeerError
from pskkey.model import ErrorMessage, Key, KeyAck, KeyNew, KeyNewReason, KeyState, KeyWatch, Message
from pskkey.wire.packet import Door, PacketReader, Side, encode

DEFAULT_SOCKET: Final = Path("/run/pskkey/keys.sock")
SOCKET_VARIABLE: Final = "PSKKEY_KEYS_SOCKET"
FIRST_DELAY: Final = 0.05
LAST_DELAY: Final = 2.0
"""Seconds before the first and, doubling, before every later attempt to connect again."""
READ_SIZE: Final = 65536

_log = logging.getLogger("pskkey.watcher")


class _Conversation:
    """What is said on `keys.sock`, over any number of connections, one after the other."""

    def __init__(self, path: Path | str | None, will_send: bool) -> None:
        self.path = Path(path or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)
        self._will_send = will_send
        self._reader = PacketReader(Door.KEYS, Side.CLIENT)
        self._open = False
        self._first = True
        self._delay = FIRST_DELAY
        self._trouble = "the daemon has sent no key state yet"
        self._denied: str | None = None
        self._newest: KeyState | None = None
        self._returned: KeyState | None = None
        self._acknowledged: dict[int, Key] = {}
        self._wanted: KeyNewReason | None = None

    def opened(self) -> bytes:
        """Begin a new connection; return what to send on it."""
        self._open = True
        self._first = True
        self._reader = PacketReader(Door.KEYS, Side.CLIENT)
        messages: list[Message] = [KeyWatch(self._will_send)]
        if self._wanted is not None:
            messages.append(KeyNew(self._wanted))
            self._wanted = None
        return b"".join(map(encode, messages))

    def receive_untrusted(self, data: bytes) -> bytes:
        """Take bytes from the daemon; return what to send. Raises BadPacket when the connection is of no more use."""
        reply = b""
        for message in self._reader.receive_untrusted(data):
            match message:
                case KeyState():
                    reply += self._take_state(message)
                case ErrorMessage():
                    if message.code == "denied" and self._newest is None:
                        self._denied = message.message
                    raise BadPacket(f"the daemon says: {message.message}")
                case _:
                    continue  # a heartbeat, or a key that nobody asked for: the state says all there is to know
        return reply

    def lost(self, reason: str) -> float:
        """End a connection, or an attempt at one; return the seconds to wait before the next."""
        _log.log(logging.WARNING if self._open else logging.DEBUG, "%s: %s", self.path, reason)
        self._open = False
        self._first = True
        self._trouble = reason
        delay, self._delay = self._delay, min(2 * self._delay, LAST_DELAY)
        return delay

    def take(self) -> KeyState | None:
        """Return the newest state if it is not the one returned last. Raises PeerError when we may not read keys."""
        if self._denied is not None:
            denied, self._denied = self._denied, None
            raise PeerError("denied", f"{self.path}: {denied}")
        if self._newest == self._returned:
            return None
        self._returned = self._newest
        return self._newest

    def deny(self, reason: str) -> None:
        """Note that the operating system keeps us out. Before the first state, that is for the operator to mend."""
        if self._newest is None:
            self._denied = reason

    def acknowledge(self, epoch: int) -> bytes:
        """Remember an acknowledgement; return what to send now, which is nothing while there is no connection."""
        key = _held(self._returned).get(epoch)
        if key is None or _held(self._newest).get(epoch) != key:
            return b""  # the key has gone since its state was returned, and nobody waits for this any more
        self._acknowledged[epoch] = key
        return b"" if self._first else encode(KeyAck(epoch))

    def request_new_key(self, reason: KeyNewReason) -> bytes:
        """Return what to send now; without a connection the next one begins with it."""
        if self._open:
            return encode(KeyNew(reason))
        self._wanted = reason
        return b""

    def overdue(self) -> TimeoutError:
        """Return the error for a caller who has waited long enough."""
        if self._returned is None:
            return TimeoutError(f"{self.path}: no key state: {self._trouble}")
        return TimeoutError(f"{self.path}: the key state has not changed")

    def _take_state(self, state: KeyState) -> bytes:
        self._newest = state
        self._delay = FIRST_DELAY
        held = _held(state)
        self._acknowledged = {epoch: key for epoch, key in self._acknowledged.items() if held.get(epoch) == key}
        if not self._first:
            return b""
        # The daemon does not know what was acknowledged on the connection before. Not until now may it be told: a
        # group that began anew has another key under the same epoch.
        self._first = False
        return b"".join(encode(KeyAck(epoch)) for epoch in self._acknowledged)


class KeyWatcher:
    """Follows the key state of the local daemon, blocking. Not for several threads at once.

    with KeyWatcher(will_send=True) as watcher:
        while True:
            state = watcher.wait()
            ...                       # install what is new, drop what is no longer listed
            for entry in state.entries:
                watcher.acknowledge(entry.epoch)
    """

    def __init__(self, path: Path | str | None = None, will_send: bool = False) -> None:
        """Watch the socket at `path`; None: the one that PSKKEY_KEYS_SOCKET names, else /run/pskkey/keys.sock.

        `will_send`: we are going to send in the group, so that the daemon gets a sender id for us.
        """
        self._conversation = _Conversation(path, will_send)
        self._socket: socket.socket | None = None
        self._outgoing = bytearray()
        self._epoll = select.epoll()
        # Readable when it is time to connect again, so that `fileno` stays one number that tells all.
        self._timer = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        self._epoll.register(self._timer, select.EPOLLIN)
        os.timerfd_settime_ns(self._timer, initial=1)

    def wait(self, timeout: float | None = None) -> KeyState:
        """Return the key state: at first the present one, later the next that differs from the one returned last.

        Of several changes since then only the newest is returned. `timeout` is in seconds, None for ever; 0 takes
        what is there. Raises TimeoutError, whose text says what is amiss, and PeerError when we may not read keys.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._epoll.poll(remaining)
            for descriptor, _ in ready:
                self._timer_expired() if descriptor == self._timer else self._exchange()
            state = self._conversation.take()
            if state is not None:
                return state
            if not ready and remaining == 0.0:
                raise self._conversation.overdue()

    def acknowledge(self, epoch: int) -> None:
        """Tell the daemon that the key of `epoch` is installed for reception. It holds across reconnects."""
        self._send(self._conversation.acknowledge(epoch))

    def request_new_key(self, reason: KeyNewReason = KeyNewReason.OPERATOR) -> None:
        """Ask the group for a new key; the state that has it comes from `wait`."""
        self._send(self._conversation.request_new_key(reason))

    def fileno(self) -> int:
        """Return a descriptor for `select` that is readable when `wait(0)` has something to do.

        It stays the same across reconnects. `wait(0)` may raise TimeoutError all the same.
        """
        return self._epoll.fileno()

    def close(self) -> None:
        """Leave. Nothing else may be called afterwards, except `close`."""
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
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(os.fspath(self._conversation.path))
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError):
                self._conversation.deny(_sentence(error))
            self._retry(_sentence(error))
            return
        self._socket = connection
        self._epoll.register(connection, select.EPOLLIN)
        self._send(self._conversation.opened())

    def _exchange(self) -> None:
        """Read all there is and write what is left over."""
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
            # Its last words, which say why it is gone, may be there to read: reading finds the end and cleans up.
            self._outgoing.clear()
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._outgoing else 0)
        self._epoll.modify(self._socket, wanted)

    def _lose(self, reason: str) -> None:
        if self._socket is not None:
            self._epoll.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self._outgoing.clear()
        self._retry(reason)

    def _retry(self, reason: str) -> None:
        os.timerfd_settime(self._timer, initial=self._conversation.lost(reason))


class AsyncKeyWatcher:
    """Follows the key state of the local daemon in asyncio, like KeyWatcher; it works only while `wait` is awaited."""

    def __init__(self, path: Path | str | None = None, will_send: bool = False) -> None:
        """Take the same as KeyWatcher."""
        self._conversation = _Conversation(path, will_send)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._retry_at = 0.0

    async def wait(self, timeout: float | None = None) -> KeyState:
        """Return the present key state, later the next one that differs, as `KeyWatcher.wait` does.

        It may be cancelled and called again. Raises TimeoutError after `timeout` seconds, and PeerError.
        """
        try:
            async with asyncio.timeout(timeout):
                while (state := self._conversation.take()) is None:
                    await self._step()
        except TimeoutError:
            raise self._conversation.overdue() from None
        return state

    def acknowledge(self, epoch: int) -> None:
        """Tell the daemon that the key of `epoch` is installed for reception. It holds across reconnects."""
        self._send(self._conversation.acknowledge(epoch))

    def request_new_key(self, reason: KeyNewReason = KeyNewReason.OPERATOR) -> None:
        """Ask the group for a new key; the state that has it comes from `wait`."""
        self._send(self._conversation.request_new_key(reason))

    async def close(self) -> None:
        """Leave."""
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
                self._writer.write(self._conversation.opened())
            data = await self._reader.read(READ_SIZE)
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            self._send(self._conversation.receive_untrusted(data))
        except (BadPacket, OSError) as error:
            if isinstance(error, PermissionError):
                self._conversation.deny(_sentence(error))
            self._abandon()
            self._retry_at = time.monotonic() + self._conversation.lost(_sentence(error))

    def _send(self, data: bytes) -> None:
        if self._writer is not None and data:
            self._writer.write(data)

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def _held(state: KeyState | None) -> dict[int, Key]:
    return {entry.epoch: entry.key for entry in state.entries} if state else {}


def _sentence(error: BadPacket | OSError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
