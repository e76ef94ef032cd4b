"""Be a member of the local daemon's group: `keys.sock`, the session and the socket put together.

A session begins with each `join`: it has seen no record, and a stranger may have recorded some. So it receives with no
key that was sent with before, and asks for a new one. That takes a rekey, as a rule from 0.1 s to 2 s. Sending does not
wait for it.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.errors import PskkeyError
from pskkey.mcast.endpoint import RECEIVE_BUFFER, MulticastEndpoint
from pskkey.mcast.session import GroupSession, Message, Need
from pskkey.model import KeyNewReason, KeyState

_LOG = logging.getLogger("pskkey.mcast")

WAITING_MESSAGES = 16384

ASKS_EVERY = 2.0
"""Seconds from one request for a new key to the next, while there is none to receive with. The daemon takes those that
come while one is open as that one; a daemon that was started meanwhile knows of none."""

HEARS_WITHIN = 10.0
"""Seconds after which a session receives with the keys that there are. A rekey takes less than 2 s where a master
answers, and without one the group's datagrams are worth more than what a recording may do."""


class GroupLeft(PskkeyError):
    """The group was used after its `async with` had ended."""


@asynccontextmanager
async def join(
    group: str,
    port: int,
    *,
    interface: str | None = None,
    path: str | Path | None = None,
    will_send: bool = True,
    timeout: float | None = None,
    ttl: int = 1,
    loopback: bool = True,
    receive_buffer: int = RECEIVE_BUFFER,
    own_records: bool = False,
    any_sender: bool = True,
) -> AsyncIterator["JoinedGroup"]:
    """Join a multicast group with the key of the local daemon, and follow that key while the context lasts.

        async with pskkey.mcast.join(group="239.255.0.1", port=12345) as session:
            await session.ready()
            session.send(b"hello")
            async for message in session:
                print(message.sender_id, message.plaintext)

    The context begins when the daemon has told its first key state, waiting at most `timeout` seconds for it (None:
    for as long as it takes, also for a daemon that is not there yet). `path`: of `keys.sock`, by default
    $PSKKEY_KEYS_SOCKET, else /run/pskkey/keys.sock. `will_send` False asks for no sender id. The others are those of
    `MulticastEndpoint` and `GroupSession`; any sender that authenticates is heard, for its record may be faster than
    the daemon's word of it.

    Nothing that was sent before we joined is delivered, also when a stranger sends it again: reception begins with the
    group's next key (`ready`), which is asked for. When none comes within `HEARS_WITHIN` seconds, reception begins with
    the keys that there are, and the log says so.

    Raises TimeoutError, PeerError when we may not read keys, ConfigError for a group, port or interface that cannot be,
    Unreachable when the system refuses to join it.
    """
    async with AsyncKeyWatcher(path, will_send=will_send) as watcher:
        first = await watcher.wait(timeout)
        joined = JoinedGroup(watcher, will_send=will_send, own_records=own_records, any_sender=any_sender)
        with MulticastEndpoint(
            group,
            port,
            joined._received,
            interface=interface,
            ttl=ttl,
            loopback=loopback,
            receive_buffer=receive_buffer,
        ) as endpoint:
            # Only now: what is acknowledged must be received.
            async with joined._following(first, endpoint):
                yield joined


class JoinedGroup:
    """A place in the group, as `join` gives it. For one task to receive, and any to send."""

    def __init__(self, watcher: AsyncKeyWatcher, *, will_send: bool, own_records: bool, any_sender: bool) -> None:
        self._session = GroupSession(
            self._ask_daemon, earlier_keys=watcher.earlier_keys, own_records=own_records, any_sender=any_sender
        )
        self._watcher = watcher
        self._will_send = will_send
        self._endpoint: MulticastEndpoint | None = None
        self._messages: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._key_changed = asyncio.Event()
        self._over: Exception | None = None

    @property
    def sender_id(self) -> int | None:
        """Our sender id, 0..255, or None while none is leased to us."""
        return self._session.sender_id

    @property
    def send_epoch(self) -> int | None:
        """The epoch of the key that is sent with; None while there is none."""
        return self._session.send_epoch

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs whose records can be received."""
        return self._session.epochs

    @property
    def counters(self) -> Counter[str]:
        """A copy of what was counted: that of the session, that of the endpoint, and `not_fetched`.

        `not_fetched`: messages thrown away because more than `WAITING_MESSAGES` waited for `receive`.
        """
        counters = self._session.counters.copy()
        if self._endpoint is not None:
            counters.update(self._endpoint.counters)
        return counters

    async def ready(self) -> None:
        """Wait until what the group sends is received and, unless we only receive, there is a sender id of ours.

        The daemon tells its session managers one after the other: what a member sends before it has been told, too, of
        the key that we waited for is not received. It may go again (see `send`).
        """
        while not self._session.hears_group or (self._will_send and self._session.sender_id is None):
            self._raise_if_over()
            self._key_changed.clear()
            await self._key_changed.wait()

    def send(self, plaintext: bytes) -> bool:
        """Send `plaintext` to the group; return False when the network did not take the datagram.

        Raises CannotSend when there is no key to send with at this moment, ValueError when it is too long (2^14 bytes;
        what is over the path's MTU is fragmented by IP), GroupLeft.
        """
        self._raise_if_over()
        if self._endpoint is None:
            raise GroupLeft("the group has not been joined yet")
        return self._endpoint.send(self._session.send(plaintext))

    async def receive(self) -> Message:
        """Return the next message of the group. Raises GroupLeft."""
        while not self._messages:
            self._raise_if_over()
            self._arrived.clear()
            await self._arrived.wait()
        return self._messages.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()

    @asynccontextmanager
    async def _following(self, first: KeyState, endpoint: MulticastEndpoint) -> AsyncIterator[None]:
        self._endpoint = endpoint
        self._install(first)
        following = asyncio.create_task(self._follow())
        following.add_done_callback(self._ended)
        hearing = asyncio.create_task(self._come_to_hear())
        try:
            yield
        finally:
            following.cancel()
            hearing.cancel()
            # What ended it before, if anything, was raised to whoever used the group.
            await asyncio.gather(following, hearing, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            self._install(await self._watcher.wait())

    async def _come_to_hear(self) -> None:
        """Ask for a key that nobody has sent with before us, and do without in the end."""
        for _ in range(round(HEARS_WITHIN / ASKS_EVERY)):
            if self._session.is_deaf:
                self._watcher.request_new_key(KeyNewReason.RECEIVER_BEGAN)
            await asyncio.sleep(ASKS_EVERY)
        if self._session.is_deaf:
            _LOG.warning(
                "no new key within %g s: receiving with the key in use; a record from before may be received again",
                HEARS_WITHIN,
            )
            self._received_with(self._session.receive_with_earlier_keys())

    def _install(self, state: KeyState) -> None:
        self._received_with(self._session.apply(state))

    def _received_with(self, epochs: Sequence[int]) -> None:
        for epoch in epochs:
            self._watcher.acknowledge(epoch)
        self._key_changed.set()

    def _ended(self, following: asyncio.Task[None]) -> None:
        error = None if following.cancelled() else following.exception()
        self._over = error if isinstance(error, Exception) else GroupLeft("the group has been left")
        self._arrived.set()
        self._key_changed.set()

    def _raise_if_over(self) -> None:
        if self._over is not None:
            raise self._over

    def _received(self, datagrams: Sequence[bytes]) -> None:
        now = asyncio.get_running_loop().time()
        for datagram in datagrams:
            message = self._session.receive(datagram, now)
            if message is None:
                continue
            if len(self._messages) < WAITING_MESSAGES:
                self._messages.append(message)
            else:
                self._session.counters["not_fetched"] += 1
        if self._messages:
            self._arrived.set()

    def _ask_daemon(self, need: Need) -> None:
        match need:
            case Need.NEW_KEY:
                self._watcher.request_new_key(KeyNewReason.SEQUENCE_HIGH_WATER)
            case Need.KEY_STATE:
                self._session.counters["state_requests"] += 1
                self._watcher.request_state()
