"""Discovery: our advert over mDNS, and those of others as events.

`announcer` sends our advert, and `advert_receiver` makes events of those of others. `mdns_gate` bounds the cost of a
stranger's packets. A node asks no questions: every node would answer, and receive each answer. A master answers the
challenge in the advert of a node that listens, and repeats its own advert. A goodbye has no effect, because any host
can send one.

Interfaces and their addresses change while the daemon runs. Discovery follows these changes, and restarts
python-zeroconf on the interfaces that are there. It restarts, too, when the kernel has dropped a membership: IP ended
on an interface and began again, or another program left the group that we had joined (see `is_deaf_somewhere`). If it
cannot run on all interfaces, it tries again at each look, on new sockets beside those that work. It restarts on the new
sockets only if more of them work.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Literal

from zeroconf import Error

from pskkey.adapters.discovery.advert_receiver import AdvertReceiver
from pskkey.adapters.discovery.announcer import Announcer
from pskkey.adapters.discovery.heard_adverts import HeardAdvert
from pskkey.adapters.discovery.mdns_condition import PortHolder, describe_failure, describe_faults
from pskkey.adapters.discovery.mdns_gate import Gate
from pskkey.adapters.discovery.multicast_sockets import Fault, MulticastSockets, is_deaf_somewhere, open_sockets
from pskkey.adapters.discovery.network import MulticastInterface, Network, look_up
from pskkey.adapters.discovery.responder import Responder
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.config.psk import PskFile
from pskkey.core.events import Event
from pskkey.model import Advert, Condition
from pskkey.rtnetlink.changes import ADDRESSES, LINKS, SMALLEST_MTU, NetworkChanges

_log = logging.getLogger("pskkey.mdns")

LOOK_EVERY: Final = 3.0
"""Seconds between two looks at the machine's addresses if the kernel does not announce their changes, or if a part of
mDNS does not run. Also the shortest time between two starts of mDNS, which receives nothing meanwhile."""

LOOK_ALSO_EVERY: Final = 10.0
"""Seconds between two looks if the kernel announces changes, and all of mDNS runs."""


class Discovery:
    """One node's presence on mDNS. Counters: `adverts_rejected`, `adverts_accepted`.

    `network_changed` is called with a new network before anything is announced there. `failed` is called with a defect
    of ours that stopped the watch on the network.
    """

    def __init__(
        self,
        *,
        group: str,
        node_id: str,
        psk: Callable[[], PskFile],
        interfaces: Sequence[str],
        ip: Literal["both", "v4", "v6"],
        emit: Callable[[Event], None],
        network_changed: Callable[[Network], None],
        failed: Callable[[BaseException], None],
        counters: Counter[str],
        options: SocketOptions,
    ) -> None:
        self._psk = psk
        self._interfaces = interfaces
        self._ip = ip
        self._network_changed = network_changed
        self._failed = failed
        self._counters = counters
        self._options = options
        self.network: Network | None = None
        """The network at the last look; None before the first."""
        self._condition: Condition | None = None
        self._holder = PortHolder()
        self._responder: Responder | None = None
        self._gate: Gate | None = None
        """The gate of the responder."""
        self._served: tuple[MulticastInterface, ...] = ()
        """The interfaces on which the responder runs, except for the faults."""
        self._has_lost_membership = False
        """Whether the kernel may have dropped a membership of the present sockets."""
        self._faults: Sequence[Fault] = ()
        """The parts of mDNS that do not run with the present sockets."""
        self._count_sending = 0
        """How many of the present sockets send."""
        self._life = ExitStack()
        self._announcer = Announcer(node_id)
        self._receiver = AdvertReceiver(
            group=group, psk=psk, is_ours=self._announcer.is_ours, emit=emit, counters=counters
        )
        self._advert: Advert | None = None
        self._follower: asyncio.Task[None] | None = None

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The present reasons why mDNS does not run, or not everywhere."""
        return () if self._condition is None else (self._condition,)

    def heard(self, now: float) -> tuple[HeardAdvert, ...]:
        """Return the adverts that were heard in the last minute before `now` (seconds of `time.monotonic`)."""
        return self._receiver.heard(now)

    def had_more_datagrams(self) -> bool:
        """Return whether the time of a turn was not enough for all datagrams since the last call."""
        if self._gate is None:
            return False
        had_more, self._gate.had_more = self._gate.had_more, False
        return had_more

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> Network:
        """Start on the interfaces that are there, and follow their changes. Return the network."""
        changes = self._life.enter_context(NetworkChanges(LINKS | ADDRESSES, self._ip_ended))
        await self._look_at_network(None)
        self._follower = asyncio.create_task(self._follow_network(changes))
        self._follower.add_done_callback(self._follower_ended)
        return self.network or Network()

    async def stop(self) -> None:
        """Send the goodbye and stop."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._life.close()
        self._advert = None
        await self._close()

    async def _follow_network(self, changes: NetworkChanges) -> None:
        loop = asyncio.get_running_loop()
        quiet, not_before = LOOK_EVERY, 0.0
        while True:
            await changes.wait(quiet)
            await asyncio.sleep(max(0.0, not_before - loop.time()))
            if await self._look_at_network(self._network_changed):
                not_before = loop.time() + LOOK_EVERY
            quiet = LOOK_ALSO_EVERY if changes.are_announced and self._condition is None else LOOK_EVERY

    def _ip_ended(self, index: int | None, mtu: int) -> None:
        """Note that the kernel has dropped the memberships of an interface; None: perhaps of any."""
        if any(index in (None, used.index) and (used.ipv6 or mtu < SMALLEST_MTU[4]) for used in self._served):
            self._has_lost_membership = True

    def _follower_ended(self, follower: asyncio.Task[None]) -> None:
        if not follower.cancelled() and (error := follower.exception()) is not None:
            self._failed(error)

    async def _look_at_network(self, changed: Callable[[Network], None] | None) -> bool:
        """Look at the machine's network and run there. Return whether something has changed.

        A failure is tried again at the next look.
        """
        try:
            network = await asyncio.to_thread(look_up, self._interfaces, self._ip)
            is_new = network != self.network
            self.network = network  # also the fields that are not compared
            if is_new and changed is not None:
                _log.info("the network changed: now %s", ", ".join(network.addresses) or "no address to announce")
                changed(network)
                await asyncio.sleep(0)  # so that its addresses are announced there, not the former ones
            has_restarted = await self._run_on(network)
        except (OSError, RuntimeError, Error) as error:  # for example, descriptors may run out
            self._condition = describe_failure(error, self._responder is not None)
            return True
        return is_new or has_restarted

    async def _run_on(self, network: Network) -> bool:
        """Run on each interface of this network where it is possible. Return whether mDNS was restarted."""
        is_deaf = self._responder is not None and is_deaf_somewhere(self._served, self._faults)
        if self._has_lost_membership or is_deaf:
            # The kernel leaves a group when a socket is closed, even if it has dropped the membership of this socket
            # before. So the former sockets must be closed before others join there.
            self._has_lost_membership = False
            await self._close()
        runs_there = self._responder is not None and network.multicast == self._served
        has_restarted = False
        if not runs_there or self._faults:
            sockets = await _open_sockets(network.multicast)
            if runs_there and len(sockets.sending) <= self._count_sending:
                await asyncio.to_thread(sockets.close)
            else:
                self._served, self._faults = network.multicast, tuple(sockets.faults)
                self._count_sending = len(sockets.sending)
                has_restarted = await self._restart_on(sockets)
        holder = ""
        if any(fault.is_port_taken for fault in self._faults):
            holder = self._holder.describe(time.monotonic())
        else:
            self._holder.forget()
        self._condition = describe_faults(self._faults, network.without_mdns, self._responder is not None, holder)
        return has_restarted

    async def _restart_on(self, sockets: MulticastSockets) -> bool:
        """Run on these sockets, which are ours now. Return False if none can send: then mDNS does not run."""
        try:
            await self._close()
            if sockets.sending:
                self._gate = Gate(self._announcer.names, self._receiver.take_untrusted, self._counters, self._options)
                self._responder = Responder(sockets, self._gate)
        except BaseException:
            await asyncio.to_thread(sockets.close)
            raise
        if self._responder is None:
            await asyncio.to_thread(sockets.close)
            return False
        try:
            await self._responder.start()
        except Error:
            await self._close()
            raise
        self._announcer.start(self._responder.zeroconf)
        if self._advert is not None:
            self.advertise(self._advert)
        return True

    async def _close(self) -> None:
        self._announcer.stop()
        self._receiver.forget()  # after the restart every advert counts, also an unchanged one
        if self._responder is not None:
            try:
                await self._responder.close()
            except (OSError, RuntimeError, Error):
                self._responder = None
                raise
            self._responder = None  # but not after a cancellation: then the next attempt closes it

    def advertise(self, advert: Advert, is_news: bool = True) -> None:
        """Answer with this advert from now on, signed with the active PSK, and announce it now if it has news."""
        self._advert = advert
        self._announcer.advertise(advert, self._psk().active.key, is_news)


async def _open_sockets(interfaces: Sequence[MulticastInterface]) -> MulticastSockets:
    opening = asyncio.ensure_future(asyncio.to_thread(open_sockets, interfaces))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])  # nobody can stop a thread
        if opening.exception() is None:
            await asyncio.to_thread(opening.result().close)
        raise
