"""The TCP port of the key server: reserved over a restart, and tried again while another program has it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pskkey.adapters.host.systemd import keeps_descriptors
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listening_sockets import PortTaken
from pskkey.adapters.tls.port_reservation import PortReservation
from pskkey.errors import ConfigError

RETRY_INTERVAL: Final = 1.0
"""Seconds between two attempts to listen. Each costs a few system calls for each address."""


class KeyPort:
    """Starts the key server, now or later. `changed` is called when a later attempt succeeds.

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
        self._has_store = keeps_descriptors(environ)
        self._stored = stored
        self._changed = changed
        self._failed = failed
        self._retry: asyncio.Task[None] | None = None
        self.trouble: str | None = None
        """A sentence that states why the key server does not listen yet. None: it listens."""

    async def open(self, addresses: Sequence[str], port: int) -> None:
        """Listen on these addresses (none: all), now or as soon as no other program has the port.

        Raises ConfigError for any other fault of the addresses or the port.
        """
        reservation = PortReservation(self._stored, addresses, port) if self._has_store else None
        try:
            await self._listen(reservation, addresses, port)
        except PortTaken as error:
            self.trouble = str(error)
            self._retry = asyncio.create_task(self._listen_later(reservation, addresses, port))
            self._retry.add_done_callback(self._retry_ended)

    async def stop(self) -> None:
        """Stop the attempts. A key server that listens continues."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)

    async def _listen(self, reservation: PortReservation | None, addresses: Sequence[str], port: int) -> None:
        if reservation is None:
            await self._server.start(addresses, port)
        else:
            with reservation.share_port():
                await self._server.start(addresses, port)
            reservation.store()
            reservation.close()
        self.trouble = None

    async def _listen_later(self, reservation: PortReservation | None, addresses: Sequence[str], port: int) -> None:
        try:
            while self.trouble is not None:
                await asyncio.sleep(RETRY_INTERVAL)
                try:
                    await self._listen(reservation, addresses, port)
                except ConfigError as error:
                    self.trouble = str(error)
        finally:
            if reservation is not None:
                reservation.close()
        self._changed()

    def _retry_ended(self, retry: asyncio.Task[None]) -> None:
        if not retry.cancelled() and (error := retry.exception()) is not None:
            self._failed(error)
