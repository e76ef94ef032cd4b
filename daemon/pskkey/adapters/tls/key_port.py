"""The TCP port of the key server: reserved over a restart, and tried again where the key server cannot listen yet.

Each address is on its own. Another program may have the port there, or this machine may not have the address now: a
DHCP server gave another one, or the interface of a link-local address was removed. An interface that is made again has
another index, and a socket that listens on the former index never hears a connection again. So the key port looks
regularly whether it listens where it should.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pskkey.adapters.host.systemd import keeps_descriptors
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listening_sockets import EVERYWHERE, GIVE_BACK, AddressMissing, Place, PortTaken, resolve
from pskkey.adapters.tls.port_reservation import PortReservation
from pskkey.config.own_interfaces import is_own_address
from pskkey.errors import ConfigError
from pskkey.model import Condition, ConditionKind

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the addresses. Each costs a few system calls for each of at most eight addresses."""

_ANOTHER_PORT: Final = "if you choose another port, set [network] port on all nodes"


class KeyPort:
    """Keeps the key server listening. `changed` is called after a later look with another result.

    `stored` are the descriptors that an earlier process stored for its port. `failed` gets a defect of ours.
    """

    def __init__(
        self,
        server: InboundSessions,
        environ: Mapping[str, str],
        stored: Sequence[int],
        changed: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._server = server
        self._reservation = PortReservation(stored) if keeps_descriptors(environ) else None
        self._changed = changed
        self._failed = failed
        self._addresses: Sequence[str] = ()
        self._port = 0
        self._places: dict[str, Place] = {}
        """Where each address was at the last look, if it was somewhere."""
        self._listening: dict[Place, socket.socket] = {}
        self._follower: asyncio.Task[None] | None = None
        self.condition: Condition | None = None
        """The reason why the key server does not listen, or not everywhere. None: it listens everywhere."""
        self.can_serve = False
        """Whether the key server listens on each address that this machine has, and on one at least."""

    def open(self, addresses: Sequence[str], port: int) -> None:
        """Listen on these addresses (none: all), and where that is not possible yet, as soon as it is.

        Raises ConfigError for a fault of an address or the port that does not pass.
        """
        self._addresses, self._port = addresses, port
        faults = self._look()
        for fault in faults:
            if not isinstance(fault, AddressMissing | PortTaken):
                raise fault
        if self.condition is not None or not set(addresses) <= set(EVERYWHERE):
            self._follower = asyncio.create_task(self._follow())
            self._follower.add_done_callback(self._follower_ended)

    async def stop(self) -> None:
        """Stop looking. A key server that listens continues."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        if self._reservation is not None:
            self._reservation.close()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            before = self.condition, self.can_serve
            self._look()
            if before != (self.condition, self.can_serve):
                self._changed()

    def _follower_ended(self, follower: asyncio.Task[None]) -> None:
        if not follower.cancelled() and (error := follower.exception()) is not None:
            self._failed(error)

    def _look(self) -> Sequence[ConfigError]:
        """Listen where it is possible now. Return the faults, one for each of the other addresses."""
        faults: list[ConfigError] = []
        wanted: dict[Place, str] = {}
        for address in self._addresses or EVERYWHERE:
            try:
                wanted[self._find_place(address)] = address
            except ConfigError as error:
                faults.append(error)
        self._places = {address: place for place, address in wanted.items()}
        self._leave_all_but(wanted)
        count = 0
        for place, address in wanted.items():
            try:
                self._listen(place, address)
                count += 1
            except ConfigError as error:
                faults.append(error)
        if self._reservation is not None:
            self._reservation.store()
        if not self._addresses and count:  # a machine without IPv6 lacks nothing that the operator has named
            faults = [fault for fault in faults if not isinstance(fault, AddressMissing)]
        self.can_serve = count > 0 and all(isinstance(fault, AddressMissing) for fault in faults)
        self.condition = _describe(faults, self.can_serve) if faults else None
        return faults

    def _find_place(self, address: str) -> Place:
        """Return where to listen on an address: where it was, if it cannot be looked for. Raises ConfigError."""
        try:
            return resolve(address, self._port)
        except AddressMissing:
            raise
        except ConfigError:  # for example, no descriptor is left
            if address not in self._places:
                raise
            return self._places[address]

    def _leave_all_but(self, wanted: Mapping[Place, str]) -> None:
        for place in [place for place in self._listening if place not in wanted]:
            self._server.stop_listening(self._listening.pop(place))
        if self._reservation is not None:
            self._reservation.release_all_but(wanted)

    def _listen(self, place: Place, address: str) -> None:
        """Listen there, unless we do. Raises ConfigError as `bind` does, also if the address is not there any more."""
        if place in self._listening:
            if not is_own_address(address):
                raise AddressMissing(address)
            return
        if self._reservation is None:
            self._listening[place] = self._server.listen(address, self._port)
            return
        with self._reservation.share_port(place, address, self._port):
            self._listening[place] = self._server.listen(address, self._port)


def _describe(faults: Sequence[ConfigError], can_serve: bool) -> Condition:
    text = "the key server does not listen everywhere" if can_serve else "no key server, so this node cannot be master"
    remedies = {GIVE_BACK if isinstance(fault, AddressMissing) else _ANOTHER_PORT: None for fault in faults}
    sentences = "; ".join(map(str, faults))
    return Condition(ConditionKind.NO_KEY_SERVER, f"{text}: {sentences}", "; ".join(remedies))
