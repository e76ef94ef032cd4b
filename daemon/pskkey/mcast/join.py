"""A member of the local daemon's group: `keys.sock`, the session and the multicast socket together.

Each `join` begins a session. The session has seen no record yet, and a stranger may have recorded some. So it does not
receive with a key that others may have sent with before, and asks for a new key. That takes a rekey, as a rule from
0.1 s to 2 s. Sending does not wait for it.
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
"""Seconds from one request for a new key to the next, while there is no key to receive with. The daemon counts requests
that come while one is open as that one. A daemon that was restarted meanwhile knows of no request."""

HEARS_WITHIN = 10.0
"""Seconds after which a session receives with the keys that there are. A rekey takes less than 2 s while a master
answers. Without a master, the group's datagrams are worth more than the protection from recorded ones."""


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

    The context begins when the daemon has sent its first key state. `timeout`: the most seconds to wait for that state;
    None: for ever, also for a daemon that does not run yet. `path`: of `keys.sock`, by default $PSKKEY_KEYS_SOCKET,
    else /run/pskkey/keys.sock. `will_send` False asks for no sender id. The other arguments are those of
    `MulticastEndpoint` and `GroupSession`. By default any sender that authenticates is received, because its record may
    arrive before the daemon lists it.

    The interface may come later than the program, and it may be removed and made anew. The session joins the group
    there again, and logs when it has no interface and when it has one again. Meanwhile all that is sent is lost, and
    `send` returns False. `has_interface` and the counters `interface_lost` and `rejoined` show it.

    A record from before we joined is not delivered, also when a stranger sends it again. Reception begins with the
    group's next key (`ready`), which the session asks for. When none comes within `HEARS_WITHIN` seconds, reception
    begins with the keys that there are, and a warning is logged.

    Raises TimeoutError, PeerError when we may not read keys, ConfigError for an impossible group, port or interface,
    Unreachable when the system refuses to join the group for another reason than a missing interface.
    """
    async with AsyncKeyWatcher(path, will_send=will_send) as watcher:
        first = await watcher.wait(timeout)
        joined = JoinedGroup(watcher, will_send=will_send, own_records=own_records, any_sender=any_sender)
        with MulticastEndpoint(
            group,
            port,
            joined._received,
            interface=interface,
            interface_changed=joined._note_change,
            ttl=ttl,
            loopback=loopback,
            receive_buffer=receive_buffer,
        ) as endpoint:
            # Acknowledge only now: we must receive with an acknowledged key.
            async with joined._following(first, endpoint):
                yield joined


class JoinedGroup:
    """A membership in the group, as `join` makes it. One task may receive, and any task may send."""

    def __init__(self, watcher: AsyncKeyWatcher, *, will_send: bool, own_records: bool, any_sender: bool) -> None:
        self._session = GroupSession(
            self._ask_daemon, earlier_keys=watcher.earlier_keys, own_records=own_records, any_sender=any_sender
        )
        self._watcher = watcher
        self._will_send = will_send
        self._endpoint: MulticastEndpoint | None = None
        self._messages: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._over: Exception | None = None

    @property
    def sender_id(self) -> int | None:
        """Our sender id, 0..255, or None while none is leased to us."""
        return self._session.sender_id

    @property
    def send_epoch(self) -> int | None:
        """The epoch of the key to send with; None while there is none."""
        return self._session.send_epoch

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs whose records can be received."""
        return self._session.epochs

    @property
    def has_interface(self) -> bool:
        """Whether the group is joined on an interface now. `ready` waits for it."""
        return self._endpoint is not None and self._endpoint.has_interface

    @property
    def counters(self) -> Counter[str]:
        """A copy of the counters of the session and of the endpoint, and `not_fetched`.

        `not_fetched`: messages dropped because more than `WAITING_MESSAGES` waited for `receive`.
        """
        counters = self._session.counters.copy()
        if self._endpoint is not None:
            counters.update(self._endpoint.counters)
        return counters

    async def ready(self) -> None:
        """Wait until we have an interface, receive with the group's key to send with and may send (have a sender id).

        A session that only receives needs no sender id.

        The daemon notifies its session managers one after the other. A member that does not have our key yet still
        sends with the key before; we do not receive that record. We may lose the sender id again (see `send`).
        """
        while not self._is_ready:
            self._raise_if_over()
            self._changed.clear()
            await self._changed.wait()

    def send(self, plaintext: bytes) -> bool:
        """Send `plaintext` to the group; return False when the network did not take it, or there is no interface.

        Raises CannotSend when there is no key to send with at this moment, ValueError when it is longer than 2^14
        bytes, GroupLeft. IP fragments a datagram that is longer than the path's MTU.
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
        following.add_done_callback(self._note_end)
        hearing = asyncio.create_task(self._ensure_reception())
        try:
            yield
        finally:
            following.cancel()
            hearing.cancel()
            # An error that ended a task before was raised to the user of the group.
            await asyncio.gather(following, hearing, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            self._install(await self._watcher.wait())

    async def _ensure_reception(self) -> None:
        """Ask for a key that nobody has sent with before; when none comes, receive with the earlier keys."""
        for _ in range(round(HEARS_WITHIN / ASKS_EVERY)):
            if self._session.is_deaf:
                self._watcher.request_new_key(KeyNewReason.RECEIVER_BEGAN)
            await asyncio.sleep(ASKS_EVERY)
        if self._session.is_deaf:
            _LOG.warning(
                "no new key within %g s: receiving with the key in use; a recorded datagram may be received again",
                HEARS_WITHIN,
            )
            self._acknowledge(self._session.receive_with_earlier_keys())

    def _install(self, state: KeyState) -> None:
        self._acknowledge(self._session.apply(state))

    def _acknowledge(self, epochs: Sequence[int]) -> None:
        for epoch in epochs:
            self._watcher.acknowledge(epoch)
        self._note_change()

    @property
    def _is_ready(self) -> bool:
        may_send = not self._will_send or self._session.sender_id is not None
        return self.has_interface and self._session.is_hearing and may_send

    def _note_change(self) -> None:
        self._changed.set()

    def _note_end(self, following: asyncio.Task[None]) -> None:
        error = None if following.cancelled() else following.exception()
        self._over = error if isinstance(error, Exception) else GroupLeft("the group has been left")
        self._arrived.set()
        self._note_change()

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
