"""python-zeroconf on sockets of ours, behind the gate.

python-zeroconf would look for the interfaces itself. Its library fails there on each name that is not UTF-8. It also
puts all memberships into one socket, which has room for 20.
"""

import asyncio

from zeroconf import InterfaceChoice, IPVersion, Zeroconf
from zeroconf._engine import AsyncEngine
from zeroconf.asyncio import AsyncZeroconf

from pskkey.adapters.discovery.announcer import forget_answers
from pskkey.adapters.discovery.mdns_gate import Gate
from pskkey.adapters.discovery.multicast_sockets import MulticastSockets


class Responder:
    """One start of python-zeroconf. It owns the sockets."""

    def __init__(self, sockets: MulticastSockets, gate: Gate) -> None:
        """Raises OSError; then the caller still owns the sockets."""
        self.zeroconf: Zeroconf = _SocketsZeroconf(sockets, gate)
        self._closer = AsyncZeroconf(zc=self.zeroconf)
        self._sockets = sockets

    async def start(self) -> None:
        """Begin to read the sockets. Raises zeroconf.Error."""
        await self.zeroconf.async_wait_for_start()
        listening = {each.fileno() for each in self._sockets.listening}
        engine = self.zeroconf.engine
        engine.senders = [sender for sender in engine.senders if sender.fileno not in listening]

    async def close(self) -> None:
        """Send the goodbye and close all sockets. Raises OSError, RuntimeError and zeroconf.Error."""
        # The event loop closes the sockets that it reads, as soon as it has sent what waits there.
        forget_answers(self.zeroconf)
        try:
            await self._closer.async_close()
        finally:
            read = {reader.fileno for reader in self.zeroconf.engine.readers}
            for each in (*self._sockets.listening, *self._sockets.sending):
                if each.fileno() not in read:
                    each.close()
            await asyncio.to_thread(self._sockets.leave)


class _SocketsZeroconf(Zeroconf):
    """Zeroconf with the given sockets. It sends through all of them until the listening ones are taken from it."""

    def __init__(self, sockets: MulticastSockets, gate: Gate) -> None:
        self._given = sockets
        self._gate = gate
        # With these arguments it does not look for interfaces, and opens a single socket, without port 5353.
        super().__init__(InterfaceChoice.Default, unicast=True, ip_version=IPVersion.V4Only)

    def start(self) -> None:
        """Start on the given sockets; the base class calls this at the end of its construction."""
        for opened in self.engine._respond_sockets:
            opened.close()
        self.loop = asyncio.get_running_loop()
        self.engine = AsyncEngine(self, None, [*self._given.listening, *self._given.sending])
        self.engine.setup(self._gate.guard(self.loop), None)
