"""The keys of `mcastpeer`'s own group: a key server for this one run, and a TLS-PSK request by every peer."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType

from pskkey.config.psk import GENERATED_KEY_SIZE, Psk, PskFile
from pskkey.errors import Unreachable
from pskkey.keyserver.api import KeyClient, KeyServer
from pskkey.model import Key, Suite
from pskkey.secret import Secret
from pskkey.wire.frame import PacketType
from pskkey.wire.keymsg import decode_key_response_untrusted

IDENTITY = "mcastpeer"
ADDRESS = "127.0.0.1"
START_TIMEOUT = 5.0


class OwnKeyServer:
    """A running key server on a free loopback port, behind a random PSK that only this process knows."""

    def __init__(self, suite: Suite) -> None:
        key = Secret(secrets.token_bytes(GENERATED_KEY_SIZE))
        self._suite = suite
        self._psk = PskFile(active=Psk(IDENTITY, key), accepted=MappingProxyType({IDENTITY: key}))
        self._server = KeyServer(self._psk, bind=ADDRESS, port=0, suite=suite)

    async def fetch(self) -> Key:
        """Return the key as a peer gets it, over TLS-PSK (`KeyClient.get_key` would answer from this process's memory).

        Raises what `KeyClient.get` and the decoder raise.
        """
        client = KeyClient(self._psk, port=self._server.port)
        payload = await asyncio.to_thread(client.get, ADDRESS, PacketType.KEY_REQ)
        # The 128-byte answer of the C key servers does not name the suite: all members must know it.
        return replace(decode_key_response_untrusted(payload).key, suite=self._suite)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context lasts. Raises Unreachable or ConfigError when the server does not start."""
        # The key server blocks and has an event loop of its own, so it gets a thread of its own.
        serving = asyncio.create_task(asyncio.to_thread(self._server.run))
        try:
            if not await asyncio.to_thread(self._server.wait_until_running, START_TIMEOUT):
                self._server.stop()
                await serving
                raise Unreachable(f"the key server did not start within {START_TIMEOUT:.0f} s")
            yield
        finally:
            self._server.stop()
            await serving
