"""Discovery: our advert over mDNS, and those of others as events.

Only verified adverts of our own group become events. `announcer` sends our advert, and `mdns_gate` bounds the cost of
a stranger's packets. Nodes announce a whole advert, so we send questions only at the start, to find the nodes that are
there. A goodbye has no effect, because any host can send one.

Interfaces and their addresses change while the daemon runs. Discovery follows these changes, and restarts
python-zeroconf on the interfaces that are there.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from zeroconf import (  # type: ignore[attr-defined]  # public too, though not in __all__
    DNSOutgoing,
    DNSQuestion,
    Error,
)
from zeroconf.asyncio import AsyncZeroconf

from pskkey.adapters.discovery.announcer import Announcer, forget_answers
from pskkey.adapters.discovery.mdns_gate import Gate
from pskkey.adapters.discovery.network import Network, look_up
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.config.psk import PskFile
from pskkey.core.events import AdvertReceived, Event
from pskkey.errors import BadPacket
from pskkey.model import Advert, Role
from pskkey.rtnetlink.changes import ADDRESSES, NetworkChanges
from pskkey.secret import Secret
from pskkey.wire.advert import (
    SERVICE_TYPE,
    advert_key,
    decode_advert_untrusted,
    group_of_untrusted,
    instance_name,
)
from pskkey.wire.dns import InstanceText, read_text_untrusted

_log = logging.getLogger("pskkey.mdns")

LOOK_EVERY = 3.0
"""Seconds between two looks at the machine's addresses if the kernel does not announce their changes. Also the shortest
time between two starts of mDNS, which receives nothing meanwhile."""

LOOK_ALSO_EVERY = 10.0
"""Seconds between two looks if the kernel announces changes."""

STRANGER_REPORTED_EVERY = 3600.0
"""Seconds."""

ASK_AT = (0.1, 1.0)
"""Seconds after the start of mDNS at which we ask for all adverts (RFC 6762 section 5.2)."""

ATTEMPTS = 3
"""Looks at which mDNS is restarted because it did not start on every interface."""

MAX_KNOWN = 2048
"""Instances of our group that are remembered; only a holder of the PSK can make an entry."""

_QUERY, _PTR, _IN = 0, 12, 1
"""RFC 1035 section 3.2: the flags of a query, a type and a class."""


class _KnownAdvert(NamedTuple):
    """The last verified advert of an instance name, and the TXT record that it came in."""

    advert: Advert
    text: bytes


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
        self._group = group
        self._psk = psk
        self._interfaces = interfaces
        self._ip = ip
        self._emit = emit
        self._network_changed = network_changed
        self._failed = failed
        self._counters = counters
        self._options = options
        self._network = Network()
        self._attempts = 0
        self._troubled = False
        self._zeroconf: AsyncZeroconf | None = None
        self._questions: list[asyncio.TimerHandle] = []
        self._announcer = Announcer(node_id)
        self._advert: Advert | None = None
        self._known: dict[str, _KnownAdvert] = {}
        self._stranger_reported_at = -STRANGER_REPORTED_EVERY
        self._follower: asyncio.Task[None] | None = None
        self._signing: tuple[PskFile, list[Secret]] | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> Network:
        """Start on the interfaces that are there, and follow their changes. Return the network."""
        await self._look_at_network(None)
        self._follower = asyncio.create_task(self._follow_network())
        self._follower.add_done_callback(self._follower_ended)
        return self._network

    async def stop(self) -> None:
        """Send the goodbye and stop."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._advert = None
        await self._close()

    async def _follow_network(self) -> None:
        loop = asyncio.get_running_loop()
        quiet, not_before = LOOK_EVERY, 0.0  # there may have been changes since the first look
        with NetworkChanges(ADDRESSES) as changes:
            while True:
                await changes.wait(quiet)
                await asyncio.sleep(max(0.0, not_before - loop.time()))
                if await self._look_at_network(self._network_changed):
                    not_before = loop.time() + LOOK_EVERY
                quiet = LOOK_ALSO_EVERY if changes.are_announced and not self._attempts else LOOK_EVERY

    def _follower_ended(self, follower: asyncio.Task[None]) -> None:
        if not follower.cancelled() and (error := follower.exception()) is not None:
            self._failed(error)

    async def _look_at_network(self, changed: Callable[[Network], None] | None) -> bool:
        """Look at the machine's network and run there. Return whether mDNS was restarted, or should have been.

        A failure is tried again at the next look.
        """
        try:
            network = look_up(self._interfaces, self._ip)
            if network == self._network and not self._attempts:
                self._network = network  # the fields that are not compared may differ
                return False
            if network != self._network:
                self._network, self._attempts = network, ATTEMPTS
                if changed is not None:
                    _log.info("the network changed: now %s", ", ".join(network.addresses) or "no usable address")
                    changed(network)
                    await asyncio.sleep(0)  # so that its addresses are announced there, not the former ones
            complete = await self._run_on(network)
        except (OSError, RuntimeError, Error) as error:
            # An address may vanish between the look and the use, and descriptors may run out.
            if not self._troubled:
                _log.warning("mDNS cannot run now: %s; trying again every %g s", error or repr(error), LOOK_EVERY)
            self._troubled = True
            self._attempts = max(self._attempts, 1)
            return True
        self._troubled = False
        self._attempts = 0 if complete else self._attempts - 1
        if not complete and not self._attempts:
            _log.warning("mDNS does not run on all of %s", ", ".join(map(str, network.multicast)))
        return True

    async def _run_on(self, network: Network) -> bool:
        """Restart mDNS on this network. Return whether it runs on every interface of it."""
        await self._close()
        if not network.multicast:
            return True
        loop = asyncio.get_running_loop()
        self._zeroconf = AsyncZeroconf(interfaces=list(network.multicast))
        zeroconf = self._zeroconf.zeroconf
        gate = Gate(self._announcer.names, self._take_untrusted, self._counters, self._options)
        zeroconf.engine.loop = gate.guard(loop)  # it opens its sockets later
        await zeroconf.async_wait_for_start()
        self._announcer.start(zeroconf)
        self._questions = [loop.call_later(delay, self._ask) for delay in ASK_AT]
        if self._advert is not None:
            self.advertise(self._advert)
        # The library reports no failed interface; the only sign is its missing sender.
        return len(zeroconf.engine.senders) >= len(network.multicast)

    async def _close(self) -> None:
        self._announcer.stop()
        for question in self._questions:
            question.cancel()
        self._questions.clear()
        self._known.clear()  # after the restart every advert counts, also an unchanged one
        if self._zeroconf is not None:
            forget_answers(self._zeroconf.zeroconf)
            try:
                await self._zeroconf.async_close()
            except (OSError, RuntimeError, Error):
                self._zeroconf = None
                raise
            self._zeroconf = None  # but not after a cancellation: then the next attempt closes it

    def _ask(self) -> None:
        """Ask for adverts, with answers by multicast.

        The kernel may deliver a unicast answer to another program on port 5353, such as avahi-daemon or another daemon
        of ours (RFC 6762 section 15.1).
        """
        if self._zeroconf is not None:
            question = DNSOutgoing(_QUERY)
            question.add_question(DNSQuestion(SERVICE_TYPE, _PTR, _IN))
            self._zeroconf.zeroconf.async_send(question)

    def advertise(self, advert: Advert) -> None:
        """Announce this advert from now on, signed with the active PSK."""
        self._advert = advert
        self._announcer.advertise(advert, self._psk().active.key)

    # --- adverts of other nodes ---------------------------------------------------------------------------------

    def _take_untrusted(self, found: InstanceText) -> None:
        keys = self._verifying_keys()
        known = self._known.get(found.name)
        if known is not None and known.text == found.text:
            if known.advert.role is Role.LISTENING:
                self._emit(AdvertReceived(known.advert))  # it has not received an answer to its challenge yet
            return
        try:
            properties = read_text_untrusted(found.text)
        except BadPacket as error:
            self._reject(found.name, str(error))
            return
        try:
            if group_of_untrusted(properties) != self._group or self._announcer.is_ours(properties.get(b"sig")):
                return
            advert = decode_advert_untrusted(properties, keys)
        except BadPacket as error:
            self._reject(found.name, str(error))
            self._report_stranger(found.name, str(error))
            return
        if found.name != f"{instance_name(advert.id)}.{SERVICE_TYPE}":
            self._reject(found.name, "it is another node's advert under this name")
            return
        self._counters["adverts_accepted"] += 1
        self._known.pop(found.name, None)
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[found.name] = _KnownAdvert(advert, found.text)
        self._emit(AdvertReceived(advert))

    def _reject(self, name: str, why: str) -> None:
        self._counters["adverts_rejected"] += 1
        _log.debug("advert %r not taken: %s", name[:80], why)

    def _report_stranger(self, name: str, why: str) -> None:
        """Log why a device of our group is not accepted, so seldom that a stranger cannot fill the log."""
        now = time.monotonic()
        if now < self._stranger_reported_at + STRANGER_REPORTED_EVERY:
            return
        self._stranger_reported_at = now
        text = "%a announces itself in our group %r, but %s: do the PSK files differ? (not logged again for an hour)"
        _log.warning(text, name[:80], self._group, why)

    def _verifying_keys(self) -> list[Secret]:
        psk = self._psk()
        if self._signing is None or self._signing[0] is not psk:
            self._signing = (psk, [advert_key(key) for key in psk.accepted.values()])
            self._known.clear()  # to be verified again
        return self._signing[1]
