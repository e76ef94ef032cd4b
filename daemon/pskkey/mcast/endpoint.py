"""The UDP socket of a multicast group, IPv4 or IPv6. It carries datagrams, and follows its interface.

An interface may be removed and made anew, renamed or moved, or come later than the program. Then the endpoint joins the
group again, with a new socket. The rules, at each change that the kernel announces:

1. The kernel has ended IP on the interface, or does not list the membership: it is lost. Join where the interface is
   now.
2. The interface (or the default route) is another one now: join there, and leave the former one.
3. No interface has the name (or address, or route) now, but the one that we joined is there: stay. It was renamed.
4. There is no interface to join: everything that is sent is lost, and counted, until there is one.

A cable that is unplugged, or an interface that is down, changes nothing: the kernel keeps the membership.

Cost: for each change of an interface, address or route of this machine, but at most once in `SETTLE` seconds, up to
three questions to the kernel. A rejoin makes one socket, so there are at most two a second.
"""

import asyncio
import errno
import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pskkey.errors import ConfigError, Unreachable
from pskkey.mcast.group_socket import GroupSocket
from pskkey.mcast.interface import MeantInterface, Place, parse_group
from pskkey.mcast.record import MAX_RECORD
from pskkey.rtnetlink.changes import ADDRESSES, LINKS, ROUTES, NetworkChanges
from pskkey.rtnetlink.memberships import list_receiving
from pskkey.rtnetlink.queries import is_there

_LOG = logging.getLogger("pskkey.mcast")

RECEIVE_BUFFER = 4 << 20
DATAGRAMS_PER_WAKE_UP = 64
SEND_QUEUE = 1024
MAX_DATAGRAM = 65507

LOOK_EVERY: Final = 2.0
"""Seconds between looks at the interface when the kernel announces no changes, or the group could not be joined."""
LOOK_ALSO_EVERY: Final = 30.0
"""Seconds between looks when nothing was announced."""

_LAST_BATCHES: Final = 256
"""Of `DATAGRAMS_PER_WAKE_UP` each: more than the receive buffer holds."""
_INTERFACE_IS_MISSING: Final = frozenset(
    {errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENETDOWN, errno.EINVAL}
)
"""The kernel's answers when an interface vanishes, or IP is off there. It answers EINVAL for IPv6."""


class MulticastEndpoint:
    """Sends to one multicast group and receives what is sent to it. Must be made inside a running event loop.

    `received` is called in the loop with the datagrams of one wake-up: at most `DATAGRAMS_PER_WAKE_UP`, so that a flood
    on one socket does not starve the others. A datagram longer than any DTLS record is cut and so malformed.
    `group`: with a zone ("ff02::1%eth0"), the zone is the interface.
    `interface`: a name ("eth0"), an alternative name, an index or an address of it; None leaves the choice to the
    routing table. It may come later, and it may be removed and made anew: see `has_interface`.
    `interface_changed` is called in the loop after each change of `has_interface`, and after each rejoin.
    `ttl` (IPv6: hop limit) 0..255: how many hops a datagram may go; 1 stays on the link.
    `loopback`: whether members on this host, this one included, receive what is sent here.
    `receive_buffer`: bytes. The kernel gives at most net.core.rmem_max, unless the process has CAP_NET_ADMIN.

    `counters`: `datagrams_sent`, `datagrams_received`, `send_failed` (the network did not take it, or there was no
    interface), `receive_failed` (the system reported an error instead of a datagram), `rejoined` (the group was joined
    again, because the interface came, was made anew, or another one took its place), `interface_lost` (the interface
    was gone and no other one took its place at once).
    Raises ConfigError for an impossible group, port or interface, Unreachable when the system refuses to join it for
    another reason than a missing interface.
    """

    def __init__(
        self,
        group: str,
        port: int,
        received: Callable[[Sequence[bytes]], None],
        *,
        interface: str | None = None,
        interface_changed: Callable[[], None] | None = None,
        ttl: int = 1,
        loopback: bool = True,
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        address, _ = parse_group(group)
        if not 1 <= port <= 65535:
            raise ConfigError(f"port: {port} is not a UDP port; allowed are 1..65535")
        if not 0 <= ttl <= 255:
            raise ConfigError(f"ttl: {ttl} is not a hop count; allowed are 0..255")
        self.counters: Counter[str] = Counter()
        self._received = received
        self._interface_changed = interface_changed
        self._queue: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self._name = f"multicast group {address} port {port}"
        self._meant = MeantInterface(group, interface)
        self._meant.check_agreement()
        self._how = GroupSocket(address, port, ttl, loopback, receive_buffer)
        self._place: Place | None = None
        self._target = self._how.target(None)
        self._socket: socket.socket | None = None
        self._may_be_deaf = False
        self._gone_since = 0.0
        self._refusal: int | None = None
        self._send_failure_reported = False
        # The notifications begin before the first look, so that no change after it is missed.
        kinds = LINKS | ADDRESSES if self._meant.is_chosen else LINKS | ADDRESSES | ROUTES
        self._changes = NetworkChanges(kinds, self._note_end)
        self._changes.__enter__()
        try:
            self._join_first()
        except BaseException:
            self._changes.__exit__(None, None, None)
            raise
        self._following = self._loop.create_task(self._follow())

    @property
    def has_interface(self) -> bool:
        """Whether the group is joined on an interface. While it is not, everything that is sent is lost."""
        return self._socket is not None

    def send(self, datagram: bytes) -> bool:
        """Send a datagram to the group; return False when the network did not take it (it is lost, as UDP may lose it).

        While the send buffer is full, datagrams wait, at most `SEND_QUEUE` of them. Raises ValueError for a datagram
        that is too long for UDP.
        """
        if len(datagram) > MAX_DATAGRAM:
            raise ValueError(f"a datagram of {len(datagram)} bytes is too long for UDP, which takes {MAX_DATAGRAM}")
        if self._socket is None:
            self.counters["send_failed"] += 1
            return False
        if self._queue:
            return self._enqueue(datagram)
        try:
            return self._send_now(self._socket, datagram)
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush, self._socket)
            return self._enqueue(datagram)

    def close(self) -> None:
        """Leave the group; drop the datagrams that wait to be sent or received. May be called twice."""
        self._following.cancel()
        self._changes.__exit__(None, None, None)
        self._queue.clear()
        self._close_socket(deliver=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- the interface --------------------------------------------------------------------------------------------

    def _join_first(self) -> None:
        try:
            place = self._meant.find()
            if place is not None:
                self._join(place)
                return
            why = self._meant.describe_absence()
        except OSError as error:
            if error.errno not in _INTERFACE_IS_MISSING:
                raise Unreachable(f"cannot join {self._name} on {self._meant}: {error.strerror or error}") from error
            self._refusal = error.errno
            why = f"{self._meant} cannot be used now: {error.strerror}"
        self._gone_since = self._loop.time()
        _LOG.warning("%s: %s; nothing is sent or received until there is one", self._name, why)

    async def _follow(self) -> None:
        quiet = LOOK_EVERY
        while True:
            await self._changes.wait(quiet)
            is_settled = self._look()
            quiet = LOOK_ALSO_EVERY if is_settled and self._changes.are_announced else LOOK_EVERY

    def _look(self) -> bool:
        """Be where the interface is now. Return whether the next look can wait for a change."""
        held = self._place
        try:
            place = self._meant.find(0 if held is None else held.index)
        except OSError as error:
            _LOG.debug("%s: cannot look for %s: %s", self._name, self._meant, error)
            return False
        if held is not None and not self._is_lost(held):
            here = place or Place(held.index, is_chosen=held.is_chosen)
            if here.index == held.index:
                return self._stay(here)
        if place is None:
            self._lose(self._meant.describe_absence())
            return True
        try:
            self._join(place)
        except OSError as error:
            self._lose(f"{self._meant} cannot be used now: {error.strerror}", error.errno)
            return False
        self._report_join(held, place)
        return True

    def _note_end(self, index: int | None, mtu: int) -> None:
        """Close the socket at once if the kernel has dropped our membership; the next look opens another one.

        On close the kernel leaves the group on the interface that has our index then. So a socket whose membership was
        dropped must be closed before anybody joins the group on a new interface with the old index.
        """
        if index is None:
            self._may_be_deaf = True
        elif self._place is not None and index == self._place.index and mtu < self._how.smallest_mtu:
            self._close_socket()
            self._announce()

    def _is_lost(self, held: Place) -> bool:
        """Return whether the kernel has, or may have, dropped our membership."""
        if self._socket is None or self._may_be_deaf:
            return True
        if not held.index:
            return False  # the kernel chose the interface, and does not name it
        try:
            return not is_there(held.index) or held.index not in list_receiving(self._how.group)
        except OSError:  # no answer, for example because no descriptor is free
            return False

    def _stay(self, here: Place) -> bool:
        """Go on with the present socket. Return whether it sends from there."""
        if self._socket is not None and here != self._place:  # the address to send from came or went
            try:
                self._how.send_from(self._socket, here)
            except OSError:
                return False
            self._place = here
        return True

    def _join(self, place: Place) -> None:
        """Leave where we are, and join the group there with a new socket. Raises OSError."""
        self._close_socket()
        self._may_be_deaf = False
        self._socket = self._how.open(place)
        self._place, self._target = place, self._how.target(place)
        self._loop.add_reader(self._socket, self._read, self._socket)

    def _lose(self, why: str, refusal: int | None = None) -> None:
        former, self._refusal = self._refusal, refusal
        if self._place is None:
            if refusal not in (None, former):
                _LOG.warning("%s: %s", self._name, why)
            return
        self._place = None
        self.counters["interface_lost"] += 1
        self._close_socket()
        self._gone_since = self._loop.time()
        _LOG.warning("%s: its interface is gone: %s; nothing is sent or received until it is back", self._name, why)
        self._announce()

    def _report_join(self, held: Place | None, place: Place) -> None:
        self.counters["rejoined"] += 1
        if held is not None:
            how = "is another one now"
            if held.index == place.index:
                how = "was interrupted"
            elif self._meant.is_chosen and _is_removed(held.index):
                how = "was made anew"
            _LOG.warning("%s: joined again, because %s %s", self._name, self._meant, how)
        else:
            seconds = self._loop.time() - self._gone_since
            _LOG.warning("%s: joined on %s, after %.1f s without it", self._name, self._meant, seconds)
        self._announce()

    def _announce(self) -> None:
        if self._interface_changed is not None:
            self._loop.call_soon(self._interface_changed)

    def _close_socket(self, *, deliver: bool = True) -> None:
        """Deliver what has arrived, count what waits to be sent as lost, and leave the group."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        if self._queue:
            self.counters["send_failed"] += len(self._queue)
            self._queue.clear()
        for _ in range(_LAST_BATCHES if deliver else 0):
            if not (datagrams := self._receive_batch(sock)):
                break
            self._loop.call_soon(self._received, datagrams)
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        sock.close()

    # --- datagrams ------------------------------------------------------------------------------------------------

    def _read(self, sock: socket.socket) -> None:
        datagrams = self._receive_batch(sock)
        if datagrams:
            self._received(datagrams)

    def _receive_batch(self, sock: socket.socket) -> list[bytes]:
        datagrams: list[bytes] = []
        receive = sock.recv
        try:
            for _ in range(DATAGRAMS_PER_WAKE_UP):
                datagrams.append(receive(MAX_RECORD + 1))  # noqa: PERF401 - an error must not lose those before it
        except BlockingIOError:
            pass  # drained
        except OSError:
            # An ICMP error for a datagram that was sent earlier; the socket still works.
            self.counters["receive_failed"] += 1
        if datagrams:
            self.counters["datagrams_received"] += len(datagrams)
        return datagrams

    def _send_now(self, sock: socket.socket, datagram: bytes) -> bool:
        try:
            sock.sendto(datagram, self._target)
        except BlockingIOError:
            raise
        except OSError as error:
            # An unplugged cable or a full device queue: this datagram is lost, and the endpoint goes on.
            if not self._send_failure_reported:
                self._send_failure_reported = True
                _LOG.warning("cannot send to %s: %s; the loss is counted from now on", self._target[0], error.strerror)
            self.counters["send_failed"] += 1
            return False
        self.counters["datagrams_sent"] += 1
        return True

    def _enqueue(self, datagram: bytes) -> bool:
        if len(self._queue) >= SEND_QUEUE:
            self.counters["send_failed"] += 1
            return False
        self._queue.append(datagram)
        return True

    def _flush(self, sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            while self._queue:
                self._send_now(sock, self._queue[0])
                self._queue.popleft()
            self._loop.remove_writer(sock)


def _is_removed(index: int) -> bool:
    """Return whether no interface has this index now; False also if that is not known."""
    try:
        return not is_there(index)
    except OSError:
        return False
