"""The protocol of a session manager on `keys.sock`, without I/O, for both watchers of `pskkey.client.watcher`."""

import logging
import os
import secrets
from pathlib import Path
from typing import Final

from pskkey.errors import BadPacket, PeerError
from pskkey.model import ErrorMessage, Key, KeyAck, KeyNew, KeyNewReason, KeyState, KeyWatch, Message
from pskkey.wire.packet import Channel, PacketReader, Side, encode

DEFAULT_SOCKET: Final = Path("/run/pskkey/keys.sock")
SOCKET_VARIABLE: Final = "PSKKEY_KEYS_SOCKET"
FIRST_DELAY: Final = 0.05
LAST_DELAY: Final = 0.2
"""Seconds before the first attempt to connect again, and the most before a later one. The delay doubles in between.

Both are short: a daemon that has just started waits for us before it lets a new key be activated, but not for long.
"""

_log = logging.getLogger("pskkey.watcher")


class WatcherConversation:
    """A conversation on `keys.sock`, over any number of connections, one after the other."""

    def __init__(self, path: Path | str | None, will_send: bool) -> None:
        self.path = Path(path or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)
        # Each conversation is one sequence context, also when several are in one process.
        self._watch = KeyWatch(will_send, secrets.randbelow(2**64 - 1) + 1)
        self._reader = PacketReader(Channel.KEYS, Side.CLIENT)
        self._open = False
        self._first = True
        self._delay = FIRST_DELAY
        self._trouble = "the daemon has sent no key state yet"
        self._denied: str | None = None
        self._newest: KeyState | None = None
        self._returned: KeyState | None = None
        self.earlier_keys: frozenset[tuple[int, str]] | None = None
        self._acknowledged: dict[int, Key] = {}
        self._pending_request: KeyNewReason | None = None

    def begin_connection(self) -> bytes:
        """Begin a new connection; return the bytes to send on it."""
        self._open = True
        self._first = True
        self._reader = PacketReader(Channel.KEYS, Side.CLIENT)
        messages: list[Message] = [self._watch]
        if self._pending_request is not None:
            messages.append(KeyNew(self._pending_request))
            self._pending_request = None
        return b"".join(map(encode, messages))

    def receive_untrusted(self, data: bytes) -> bytes:
        """Take bytes from the daemon; return the reply. Raises BadPacket when the connection must end."""
        reply = b""
        for message in self._reader.receive_untrusted(data):
            match message:
                case KeyState():
                    reply += self._take_state(message)
                case ErrorMessage():
                    if message.code == "denied" and self._newest is None:
                        self._denied = message.message
                    raise BadPacket(f"the daemon reports: {message.message}")
                case _:
                    continue  # a heartbeat, or a key that we did not ask for: the state has everything
        return reply

    def end_connection(self, reason: str) -> float:
        """End a connection, or an attempt at one; return the seconds to wait before the next."""
        _log.log(logging.WARNING if self._open else logging.DEBUG, "%s: %s", self.path, reason)
        self._open = False
        self._first = True
        self._trouble = reason
        delay, self._delay = self._delay, min(2 * self._delay, LAST_DELAY)
        return delay

    def take_new_state(self) -> KeyState | None:
        """Return the newest state if it is not the one returned last. Raises PeerError when we may not read keys."""
        if self._denied is not None:
            denied, self._denied = self._denied, None
            raise PeerError("denied", f"{self.path}: {denied}")
        if self._newest == self._returned:
            return None
        self._returned = self._newest
        return self._newest

    def note_denial(self, reason: str) -> None:
        """Note that the operating system denies us the socket. Before the first state, the operator must mend that."""
        if self._newest is None:
            self._denied = reason

    def acknowledge(self, epoch: int) -> bytes:
        """Remember an acknowledgement; return the bytes to send now: none without a connection."""
        key = keys_by_epoch(self._returned).get(epoch)
        if key is None or keys_by_epoch(self._newest).get(epoch) != key:
            return b""  # the daemon has dropped the key since then, and does not wait for this any more
        self._acknowledged[epoch] = key
        return b"" if self._first else encode(KeyAck(epoch))

    def request_new_key(self, reason: KeyNewReason) -> bytes:
        """Return the bytes to send now. Without a connection, the next one begins with the request."""
        if self._open:
            return encode(KeyNew(reason))
        self._pending_request = reason
        return b""

    def request_state(self) -> bytes:
        """Return the bytes that make the daemon send its state again. A new connection begins with them anyway."""
        return encode(self._watch) if self._open else b""

    def make_timeout_error(self) -> TimeoutError:
        """Return the error for a caller whose timeout has passed."""
        if self._returned is None:
            return TimeoutError(f"{self.path}: no key state: {self._trouble}")
        return TimeoutError(f"{self.path}: the key state has not changed")

    def _take_state(self, state: KeyState) -> bytes:
        self._newest = state
        if self.earlier_keys is None:
            self.earlier_keys = frozenset((e.epoch, e.key.fingerprint) for e in state.entries if not e.unused)
        self._delay = FIRST_DELAY
        held = keys_by_epoch(state)
        self._acknowledged = {epoch: key for epoch, key in self._acknowledged.items() if held.get(epoch) == key}
        if not self._first:
            return b""
        # The daemon does not know the acknowledgements of the connection before. They wait for this state: a group
        # that began anew has another key under the same epoch.
        self._first = False
        return b"".join(encode(KeyAck(epoch)) for epoch in self._acknowledged)


def keys_by_epoch(state: KeyState | None) -> dict[int, Key]:
    """Return the keys of a state by their epochs."""
    return {entry.epoch: entry.key for entry in state.entries} if state else {}
