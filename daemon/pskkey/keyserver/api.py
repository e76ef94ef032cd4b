"""Key server and key client for scripts: blocking, without a daemon or a group.

KeyServer("/etc/pskkey.psk").run()
key = KeyClient("/etc/pskkey.psk").get_key("10.0.0.1")
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pskkey.adapters.host.entropy import random_key
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.config.psk import Psk, PskFile, load_psk
from pskkey.daemon.log_budget import LogBudget
from pskkey.errors import BadPacket, Unreachable
from pskkey.keyserver.request_client import look_up, request
from pskkey.keyserver.request_server import RequestServer
from pskkey.model import Key, Suite
from pskkey.wire.frame import PacketType
from pskkey.wire.keymsg import decode_key_response_untrusted

DEFAULT_PORT = 11111
_ALL = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104  compared with, not listened on


class KeyServer:
    """Gives one key to every client that holds a PSK of `psk_file`.

    `bind` is an IP address or several; none means all, of IPv4 and of IPv6. `port` 0 takes a free port. Without `key`
    the server makes a random key for `suite`. `legacy_clients` admits older C clients, whose suites have no forward
    secrecy. `handlers` answer other request types (0..255 except 1, the key, and 31, the error): each takes the payload
    of the request and returns that of the answer, at most 65535 bytes, without blocking. `on_event` gets a line for
    each connection, request and response. `identity` admits only clients with this one line of the file.

    Raises ConfigError for a PSK file that cannot be used, ValueError for a handler of a type that is not allowed.
    """

    # The servers that run in this process. A KeyClient asks them without the network. This is the only shared state in
    # pskkey. It is a tuple that is replaced, so that a reader needs no lock.
    _running: ClassVar[tuple["KeyServer", ...]] = ()
    _running_changes: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        psk_file: str | Path | PskFile,
        bind: str | Sequence[str] = (),
        port: int = DEFAULT_PORT,
        key: Key | None = None,
        suite: Suite = Suite.PSK_CHACHA20_POLY1305,
        legacy_clients: bool = False,
        handlers: Mapping[int, Callable[[bytes], bytes]] | None = None,
        on_event: Callable[[str], None] | None = None,
        identity: str | None = None,
    ) -> None:
        self._psk = _psk_file(psk_file, identity)
        self._addresses = (bind,) if isinstance(bind, str) else tuple(bind)
        self._wanted_port = port
        self._key = random_key(suite) if key is None else key
        self._server = RequestServer(self._psk, self._key, legacy_clients, handlers or {}, on_event or _ignore_line)
        self._listening = threading.Event()
        self._stop_asked = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def key(self) -> Key:
        """The key that clients get."""
        return self._key

    @property
    def is_running(self) -> bool:
        """Whether `run` is listening now."""
        return self._listening.is_set()

    @property
    def port(self) -> int:
        """The TCP port on which the server listens while it runs, else the requested one."""
        addresses = self._server.addresses
        return addresses[0][1] if addresses else self._wanted_port

    def run(self) -> None:
        """Serve until `stop` is called. Raises ConfigError when an address or the port cannot be used.

        Blocks, and runs an event loop of its own. Where a loop runs already, call this in another thread.
        """
        asyncio.run(self._run())

    def wait_until_running(self, timeout: float | None = None) -> bool:
        """Wait, in another thread than `run`'s, until it listens, at most `timeout` seconds; return whether it does."""
        return self._listening.wait(timeout)

    def stop(self) -> None:
        """Make `run` return, or the next `run` return at once. Any thread and any signal handler may call this."""
        self._stop_asked.set()
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            try:
                loop.call_soon_threadsafe(stopping.set)
            except RuntimeError:  # the loop is closed: the server has stopped
                return

    @classmethod
    def key_from_memory(cls, address: str, port: int, psk: Psk) -> Key | None:
        """Return the key of the server of this process that a connection there would reach; None when there is none.

        Also None when that server would refuse `psk`, so that this way grants no more than the network.
        """
        candidates = [server for server in cls._running if server._psk.accepted.get(psk.identity) == psk.key]
        if not candidates:
            return None
        try:
            family, target = look_up(address, port)[0]  # a connection tries this one first
        except Unreachable:
            return None
        ip = str(target[0])
        reached = {(ip, port)} | ({(_ALL[family], port)} if _is_own_address(family, ip) else set())
        for server in candidates:
            if reached.intersection(server._server.addresses):
                return server.key
        return None

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_asked.is_set():
            self._stopping.set()
        budget = LogBudget()
        try:
            with budget.over("pskkey.tls", "pskkey.server"), budget.reporting(self._loop.call_later):
                await self._server.start(self._addresses, self._wanted_port)
                with KeyServer._running_changes:
                    KeyServer._running += (self,)
                self._listening.set()
                await self._stopping.wait()
        finally:
            self._listening.clear()
            with KeyServer._running_changes:
                KeyServer._running = tuple(server for server in KeyServer._running if server is not self)
            self._loop = None
            await self._server.stop()
            self._stop_asked.clear()


class KeyClient:
    """Asks key servers, each time with a connection of its own.

    The client uses the first line of `psk_file`, or that of `identity`. `timeout` in seconds is for a whole request.
    `bind` is the local IP address to connect from. Raises ConfigError for a PSK file that cannot be used.

    `legacy_server` is for older C key servers, which speak TLS 1.2 with a plain PSK. Such a session has no forward
    secrecy: a recorded session can be decrypted as soon as the PSK becomes known. The client then speaks TLS 1.2 only,
    also to a server that has TLS 1.3. Without it, the client speaks TLS 1.3 only.
    """

    def __init__(
        self,
        psk_file: str | Path | PskFile,
        identity: str | None = None,
        port: int = DEFAULT_PORT,
        timeout: float = 5.0,
        bind: str | None = None,
        legacy_server: bool = False,
    ) -> None:
        self._psk = _psk_file(psk_file, identity).active
        self._port = port
        self._timeout = timeout
        self._bind = bind
        self._legacy_server = legacy_server
        self._options = SocketOptions(Counter())

    def get_key(self, address: str) -> Key:
        """Return the key that the server at this host name or IP address gives.

        A server that runs in this process, and accepts our PSK, answers from memory. The short form of the answer (128
        bytes) does not name the cipher suite: then the key has the default one. Raises the errors of `get`.
        """
        key = KeyServer.key_from_memory(address, self._port, self._psk)
        if key is not None:
            return key
        try:
            return decode_key_response_untrusted(self.get(address, PacketType.KEY_REQ)).key
        except BadPacket as error:
            raise BadPacket(f"{address}, port {self._port}: {error}") from None

    def get(self, address: str, request_type: int, payload: bytes = b"") -> bytes:
        """Send a request (type 0..255, payload at most 65535 bytes) and return the payload of the answer.

        Raises Unreachable when nothing answers there, its subclass NoAnswer when the server does not answer in time,
        HandshakeError when the PSK does not fit, PeerError when the server refuses, BadPacket when it does not speak
        our protocol.
        """
        return request(
            address,
            self._port,
            self._psk,
            int(request_type),
            payload,
            timeout=self._timeout,
            bind=self._bind,
            options=self._options,
            legacy_server=self._legacy_server,
        )


def _psk_file(source: str | Path | PskFile, identity: str | None) -> PskFile:
    psk = source if isinstance(source, PskFile) else load_psk(Path(source))
    return psk if identity is None else psk.only(identity)


def _is_own_address(family: int, address: str) -> bool:
    """Return whether this machine has the IP address: only then can a socket be bound to it."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _ignore_line(_line: str) -> None:
    """Ignore a line of a server without `on_event`."""
