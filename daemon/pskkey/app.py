"""`pskkeyd`: builds the parts from the configuration, runs them, and takes them down in order.

Exit codes: 0 stopped as asked, 1 a defect or a failure at run time, 2 the configuration or the command line is wrong.
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from pskkey import __version__, logs
from pskkey.adapters.control_socket import ControlSocket
from pskkey.adapters.entropy import random_key
from pskkey.adapters.interfaces import Network
from pskkey.adapters.key_client import KeyClient
from pskkey.adapters.key_server import KeyServer
from pskkey.adapters.key_socket import KeySocket
from pskkey.adapters.key_store import FD_NAME, open_key_store
from pskkey.adapters.mdns import Discovery
from pskkey.adapters.process import forbid_core_dumps, raise_descriptor_limit
from pskkey.adapters.systemd import Systemd, inherited
from pskkey.adapters.tls_listener import ServerLimits
from pskkey.commands import Commands
from pskkey.config import DEFAULT_CONFIG, Config, load_config, node_id, node_name
from pskkey.core.actions import Advertise, Notice, NoticeKind
from pskkey.core.events import AddressesChanged, SettingsChanged, Started, StopRequested
from pskkey.core.node import Node
from pskkey.core.settings import Settings, Timing
from pskkey.driver import Driver, Outlets, boot_time
from pskkey.errors import ConfigError, without_keys
from pskkey.model import Advert, Member
from pskkey.psk import PskFile, find_psk_file, load_psk
from pskkey.status import sentence, status

_log = logging.getLogger("pskkey")

KEYS_SOCKET = "keys"
CONTROL_SOCKET = "control"
"""`FileDescriptorName=` of the socket units."""

_WARNINGS = frozenset(
    {
        NoticeKind.MASTER_LOST,
        NoticeKind.JOIN_FAILED,
        NoticeKind.MEMBER_REFUSED,
        NoticeKind.TWO_MASTERS,
        NoticeKind.FENCED,
        NoticeKind.SLEPT,
        NoticeKind.SECOND_SENDER,
        NoticeKind.PROTOCOL_ERROR,
    }
)

_OTHER_DESCRIPTORS = 64 + 256 + 64
"""File descriptors beside those for [limits]: our own, and those for `keys.sock` and `control.sock`."""

_COUNTERS = ("handshakes_ok", "handshakes_failed", "adverts_rejected", "bad_packets", "elections", "rekeys")


def _settings(config: Config, addresses: tuple[str, ...]) -> Settings:
    me = Member(
        id=node_id(config),
        name=node_name(config),
        addresses=addresses,
        port=config.network.port,
        priority=config.node.priority,
        eligible=config.node.eligible,
        sender_id=config.node.sender_id,
    )
    timing = Timing(
        discovery_window=config.election.discovery_window,
        claim_step=config.election.claim_step,
        heartbeat_interval=config.election.heartbeat_interval,
        dead_after=config.election.dead_after,
        activation_deadline=config.key.activation_deadline,
        retire_after=config.key.retire_after,
        rekey_interval=config.key.rekey_interval,
    )
    instance = secrets.token_hex(8)
    return Settings(
        config.group.name, me, instance, __version__, config.limits.members, config.election.preempt, timing
    )


class Daemon:
    """One running daemon."""

    def __init__(self, config: Config, psk: PskFile) -> None:
        self._config = config
        self._psk = psk
        self._counters: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))
        self._settings = _settings(config, config.network.addresses)
        self._inherited = inherited(os.environ, FD_NAME)
        self._store = open_key_store(os.environ, self._inherited.stored)
        self._node = Node(self._settings, self._store.saved if self._store else None)
        self._driver = Driver(self._node)
        self._network = Network()
        self._systemd = Systemd(os.environ)
        emit = self._driver.emit
        limits = ServerLimits(
            connections=config.limits.connections,
            connections_per_address=config.limits.connections_per_address,
            handshakes=config.limits.handshakes,
            handshake_timeout=config.limits.handshake_timeout,
        )
        self._key_server = KeyServer(self._current_psk, config.tls.legacy_clients, limits, emit, self._counters)
        self._key_client = KeyClient(self._current_psk, emit, self._counters, self._is_ours)
        self._key_socket = KeySocket(config.handoff.users, config.handoff.groups, emit, self._counters)
        self._control_socket = ControlSocket(
            self._status,
            Commands(self._node, emit).table(),
            config.control.users,
            config.control.groups,
            self._counters,
            __version__,
        )
        self._discovery = Discovery(
            group=config.group.name,
            node_id=self._settings.me.id,
            psk=self._current_psk,
            interfaces=config.network.interfaces,
            ip=config.network.ip,
            emit=emit,
            network_changed=self._network_changed,
            failed=self._failed,
            counters=self._counters,
        )
        self._driver.attach(
            Outlets(
                key_client=self._key_client,
                key_server=self._key_server,
                key_socket=self._key_socket,
                advertise=self._advertise,
                notice=self._notice,
                save=self._store.save if self._store else None,
                random_key=lambda: random_key(config.key.suite),
                handled=self._handled,
            )
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigError when a socket cannot be had."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._driver.emit, StopRequested())
        loop.add_signal_handler(signal.SIGHUP, self._reload_psk)
        network = self._config.network
        sockets = self._inherited.sockets
        async with AsyncExitStack() as stack:  # takes down in the opposite order, all of it whatever fails
            if self._store is not None:
                stack.callback(self._store.close)
            stack.push_async_callback(self._control_socket.stop)
            stack.push_async_callback(self._key_socket.stop)
            stack.push_async_callback(self._key_server.stop)
            stack.push_async_callback(self._key_client.stop)
            stack.push_async_callback(self._discovery.stop)
            stack.callback(self._driver.close)
            stack.push_async_callback(self._systemd.stopping)
            await self._key_socket.start(self._config.handoff.socket, sockets.get(KEYS_SOCKET))
            await self._control_socket.start(self._config.control.socket, sockets.get(CONTROL_SOCKET))
            await self._key_server.start(network.addresses, network.port)
            self._take_network(await self._discovery.start())
            self._driver.emit(Started())
            self._systemd.ready()
            _log.info("pskkeyd %s, group %r, node %s", __version__, self._settings.group, self._settings.me.id)
            await self._driver.stopped
        _log.info("stopped")

    def _current_psk(self) -> PskFile:
        return self._psk

    def _reload_psk(self) -> None:
        try:
            self._psk = load_psk(find_psk_file(self._config.psk.file, os.environ))
        except ConfigError as error:
            _log.error("not reloaded, nothing changed: %s", error)
        else:
            _log.info("PSK file read again: %d identities accepted", len(self._psk.accepted))
            settings = self._settings
            me = settings.me
            self._driver.emit(
                SettingsChanged(
                    me.name, me.priority, me.eligible, settings.max_members, settings.preempt, settings.timing
                )
            )

    def _take_network(self, network: Network) -> None:
        self._network = network
        self._tell_of(network)
        if not self._config.network.addresses:
            self._settings.me = replace(self._settings.me, addresses=network.addresses)

    def _network_changed(self, network: Network) -> None:
        self._network = network
        self._tell_of(network)
        if not self._config.network.addresses:
            self._driver.emit(AddressesChanged(network.addresses))

    def _tell_of(self, network: Network) -> None:
        """Say what keeps this node from being found, which shows nowhere else."""
        chosen = self._config.network.interfaces
        if not network.multicast:
            wanted = f"[network] interfaces = {', '.join(chosen)}" if chosen else "this machine but loopback"
            _log.warning(
                "alone: no interface of %s has an address now, so no other node is found; there are: %s",
                wanted,
                ", ".join(network.there) or "none",
            )
        elif not network.addresses and not self._config.network.addresses:
            _log.warning("alone: there is no address that others could connect to, so nothing is announced")
        if network.left_out and not self._config.network.addresses:
            _log.info("more addresses than a node may tell others; not told: %s", ", ".join(network.left_out))

    def _is_ours(self, address: str, port: int) -> bool:
        """Whether our own key server listens there."""
        if port != self._settings.me.port:
            return False
        return address in (self._config.network.addresses or self._network.addresses + self._network.left_out)

    def _failed(self, error: BaseException) -> None:
        """End the daemon on a defect of ours, rather than go on half dead."""
        if not self._driver.stopped.done():
            self._driver.stopped.set_exception(error)

    def _advertise(self, said: Advertise) -> None:
        me = self._settings.me
        self._discovery.advertise(
            Advert(
                group=self._settings.group,
                id=me.id,
                name=me.name,
                priority=me.priority,
                eligible=me.eligible,
                role=said.role,
                term=said.term,
                members=said.members,
                addresses=me.addresses,
                port=me.port,
            )
        )

    def _notice(self, notice: Notice) -> None:
        self._counters[notice.kind] += 1
        if notice.kind is NoticeKind.DUPLICATE_ID:
            level = logging.ERROR
        else:
            level = logging.WARNING if notice.kind in _WARNINGS else logging.INFO
        _log.log(level, "%s", notice.text)

    def _handled(self) -> None:
        self._systemd.status(sentence(self._node))
        self._control_socket.status_changed()

    def _status(self) -> dict[str, object]:
        return status(self._node, self._settings, self._counters, boot_time())


def _allow_descriptors(config: Config) -> None:
    allowed = raise_descriptor_limit()
    needed = config.limits.connections + config.limits.handshakes + _OTHER_DESCRIPTORS
    if needed > allowed:
        _log.warning(
            "[limits] may need %d open files, but this process may have only %d: raise LimitNOFILE= of the service "
            "or lower connections and handshakes",
            needed,
            allowed,
        )


def _complain(error: ConfigError) -> None:
    for line in str(error).splitlines():
        print(f"pskkeyd: {without_keys(line)}", file=sys.stderr)


def _check(path: Path) -> Config:
    config = load_config(path)
    node_id(config)
    psk_file = find_psk_file(config.psk.file, os.environ)
    try:
        psk_file.lstat()
    except FileNotFoundError:
        named = without_keys(psk_file)
        print(f"pskkeyd: note: {named} does not exist yet; `pskkeyctl psk generate` makes one", file=sys.stderr)
    except OSError as error:
        raise ConfigError(f"{without_keys(psk_file)}: the PSK file cannot be looked at: {error.strerror}") from None
    else:
        load_psk(psk_file)
    return config


def main() -> int:
    """Run the daemon; return its exit code."""
    parser = argparse.ArgumentParser(prog="pskkeyd", description="Group-key daemon for multicast DTLS.")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and end")
    parser.add_argument("--version", action="version", version=f"pskkeyd {__version__}")
    arguments = parser.parse_args()
    forbid_core_dumps()
    try:
        if arguments.check_config:
            _check(arguments.config)
            print(f"{arguments.config}: ok")
            return 0
        config = load_config(arguments.config)
        logs.configure(config.log.level)
        _allow_descriptors(config)
        psk = load_psk(find_psk_file(config.psk.file, os.environ))
        asyncio.run(_run(config, psk))
    except ConfigError as error:
        _complain(error)
        return 2
    return 0


async def _run(config: Config, psk: PskFile) -> None:
    await Daemon(config, psk).run()
