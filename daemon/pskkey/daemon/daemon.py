"""One running daemon: its parts, their connections, and the order in which they start and stop."""

import asyncio
import logging
import os
import secrets
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

from pskkey import __version__
from pskkey.adapters.discovery.mdns import Discovery
from pskkey.adapters.discovery.network import Network
from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.host import key_store
from pskkey.adapters.host.entropy import random_key
from pskkey.adapters.host.key_store import open_key_store
from pskkey.adapters.host.loop_turns import LoopTurns
from pskkey.adapters.host.packet_models import build_packet_models
from pskkey.adapters.host.process import raise_descriptor_limit
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.host.systemd import Systemd, inherited
from pskkey.adapters.local import control_socket, key_socket, waiting_room
from pskkey.adapters.local.control_socket import CommandOutcome, ControlSocket
from pskkey.adapters.local.key_socket import KeySocket
from pskkey.adapters.reading import Reading
from pskkey.adapters.tls import port_reservation
from pskkey.adapters.tls.authentication import FailedAuthentication
from pskkey.adapters.tls.handshake_queue import SHARES
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.key_port import KeyPort
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.adapters.tls.listening_sockets import EVERYWHERE_WITH
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.config.psk import PskFile
from pskkey.config.schema import Config, node_id, node_name
from pskkey.core.events import AddressesChanged, PskChanged, SettingsChanged, Started, StopRequested
from pskkey.core.node import Node
from pskkey.core.notices import Notice
from pskkey.core.settings import Settings, Timing
from pskkey.daemon import logs
from pskkey.daemon.commands import Commands
from pskkey.daemon.conditions import ConditionList
from pskkey.daemon.conditions import sentence as condition_sentence
from pskkey.daemon.counters import DatedCounter
from pskkey.daemon.driver import Driver, Outlets, boot_time
from pskkey.daemon.event_kinds import DaemonEvent, Fields
from pskkey.daemon.journal import Journal
from pskkey.daemon.machine_conditions import find_machine_conditions
from pskkey.daemon.network_report import network_report
from pskkey.daemon.reload import Inputs, Reloader
from pskkey.daemon.status import sentence, status
from pskkey.model import Condition, Member

_log = logging.getLogger("pskkey")

KEYS_SOCKET = "keys"
CONTROL_SOCKET = "control"
"""`FileDescriptorName=` of the socket units."""

_OTHER_DESCRIPTORS = 64 + key_socket.MAX_CONNECTIONS + control_socket.MAX_CONNECTIONS + 2 * waiting_room.PLACES
"""File descriptors beside those for [limits]: our own, and those for `keys.sock` and `control.sock`."""

CONDITIONS_EVERY = 1.0
"""Seconds between two looks for conditions; each status is a look, too."""

_COUNTERS = (
    *("handshakes_ok", "handshakes_failed", "authentications_failed", "adverts_rejected", "bad_packets"),
    *("elections", "rekeys"),
)


def _settings(config: Config, addresses: tuple[str, ...]) -> Settings:
    me = Member(
        id=node_id(config),
        name=node_name(config),
        addresses=addresses,
        port=config.network.port,
        priority=config.node.priority,
        eligible=config.node.eligible,
        sender_id=config.node.sender_id,
        version=__version__,
    )
    incarnation = secrets.token_hex(8)
    return Settings(
        group=config.group.name,
        me=me,
        incarnation=incarnation,
        nonce=secrets.token_urlsafe(6),
        max_members=config.limits.members,
        members_per_address=config.limits.connections_per_address,
        preempt=config.election.preempt,
        timing=_timing(config),
        suite=config.key.suite,
        key_requests=config.tls.key_requests,
    )


def _timing(config: Config) -> Timing:
    return Timing(
        discovery_window=config.election.discovery_window,
        claim_step=config.election.claim_step,
        heartbeat_interval=config.election.heartbeat_interval,
        dead_after=config.election.dead_after,
        activation_deadline=config.key.activation_deadline,
        retire_after=config.key.retire_after,
        rekey_interval=config.key.rekey_interval,
        rekey_on_leave=config.key.rekey_on_leave,
        expires_after=config.key.expires_after,
    )


def _limits(config: Config) -> ServerLimits:
    return ServerLimits(
        connections=config.limits.connections,
        connections_per_address=config.limits.connections_per_address,
        handshakes=config.limits.handshakes,
        handshake_timeout=config.limits.handshake_timeout,
    )


class Daemon:
    """One running daemon."""

    def __init__(self, path: Path, config: Config, psk: PskFile, loop_turns: LoopTurns) -> None:
        """`config` was read from the file at `path`, and `psk` from the file that `config` names.

        `loop_turns` measures the turns of the event loop in which the daemon runs.
        """
        self._config = config
        self._loop_turns = loop_turns
        self._psk = psk
        self._counters = DatedCounter(_COUNTERS, boot_time)
        self._settings = _settings(config, config.network.addresses)
        self._inherited = inherited(os.environ, (key_store.FD_NAME, port_reservation.FD_NAME))
        self._store = open_key_store(os.environ, self._inherited.stored[key_store.FD_NAME])
        self._node = Node(self._settings, self._store.saved if self._store else None)
        self._driver = Driver(self._node)
        """None before the first look."""
        self._systemd = Systemd(os.environ)
        emit = self._driver.emit
        self._journal = Journal(self._common_fields)
        self._conditions = ConditionList(self._report_condition, boot_time)
        self._updated_at = float("-inf")
        self._reloader = Reloader(path, config, os.environ, self._apply, self._systemd, self._journal)
        legacy = config.tls.legacy_clients
        turns, options = FairTurns(self._driver.has_room), SocketOptions(self._counters)
        me, psk_now, limits = self._settings.me.id, self._current_psk, _limits(config)
        self._key_server = InboundSessions(
            me, psk_now, legacy, limits, emit, self._counters, turns, options, self._report_failed_authentication
        )
        kept = self._inherited.stored[port_reservation.FD_NAME]
        self._key_port = KeyPort(self._key_server, os.environ, kept, self._settings_changed, self._failed)
        self._key_client = OutboundSessions(
            psk_now, emit, self._counters, turns, options, self._report_failed_authentication
        )
        self._key_socket = KeySocket(config.handoff.users, config.handoff.groups, emit, self._counters, turns)
        self._control_socket = ControlSocket(
            self._status,
            Commands(self._node, emit).table(),
            config.control.users,
            config.control.groups,
            self._counters,
            __version__,
            self._commanded,
            readings={"GetNetwork": self._network_report},
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
            options=options,
        )
        self._driver.attach(
            Outlets(
                key_client=self._key_client,
                key_server=self._key_server,
                key_socket=self._key_socket,
                advertise=self._discovery.advertise,
                notice=self._notice,
                save=self._store.save if self._store else None,
                random_key=random_key,
                when_read=Reading(turns, self._discovery.had_more_datagrams).when_done,
                handled=self._handled,
            )
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigError when a Unix socket or an address cannot be used."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._driver.emit, StopRequested())
        loop.add_signal_handler(signal.SIGHUP, self._reloader.request)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        network = self._config.network
        sockets = self._inherited.sockets
        async with AsyncExitStack() as stack:  # stops all parts in the opposite order, even when one fails
            # Closing the loop restores the default action of the signal, which ends the process.
            stack.callback(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGHUP})
            if self._store is not None:
                stack.callback(self._store.close)
            stack.push_async_callback(self._control_socket.stop)
            stack.push_async_callback(self._key_socket.stop)
            stack.push_async_callback(self._key_server.stop)
            stack.push_async_callback(self._key_port.stop)
            stack.push_async_callback(self._key_client.stop)
            stack.push_async_callback(self._discovery.stop)
            stack.callback(self._driver.close)
            stack.push_async_callback(self._systemd.stopping)
            stack.push_async_callback(self._reloader.stop)
            await self._key_socket.start(self._config.handoff.socket, sockets.get(KEYS_SOCKET))
            await self._control_socket.start(self._config.control.socket, sockets.get(CONTROL_SOCKET))
            self._key_port.open(network.addresses or EVERYWHERE_WITH[network.ip], network.port)
            self._network_changed(await self._discovery.start())
            if not self._key_port.can_serve:
                self._settings_changed()
            self._update_conditions()
            self._driver.emit(Started())
            self._systemd.ready()
            self._reloader.start(self._failed)
            started = f"pskkeyd {__version__}, group {self._settings.group!r}, node {self._settings.me.id}"
            self._journal.log_event(DaemonEvent.STARTED, started)
            await build_packet_models()
            self._loop_turns.forget()  # the start serves nobody, and its long turn would hide later ones
            await self._driver.stopped
        self._journal.flush()
        self._journal.log_event(DaemonEvent.STOPPED, "stopped")

    def _current_psk(self) -> PskFile:
        return self._psk

    def _apply(self, inputs: Inputs) -> None:
        """Apply the files that were read again. A step that the machine refuses is only logged."""
        before, config = self._config, inputs.config
        if inputs.psk != self._psk:
            self._driver.emit(PskChanged(inputs.psk.active.name, inputs.psk.names))
        self._config, self._psk = config, inputs.psk
        logs.set_level(config.log.level)
        if config.limits != before.limits:
            allow_descriptors(config)
        self._key_server.reconfigure(config.tls.legacy_clients, _limits(config))
        self._key_socket.permit(inputs.handoff)
        self._control_socket.permit(inputs.control)
        self._settings_changed()
        self._key_server.psk_changed()

    def _settings_changed(self) -> None:
        """Pass the settings of the operator to the core. A node without a key server is not eligible."""
        config = self._config
        self._driver.emit(
            SettingsChanged(
                node_name(config),
                config.node.priority,
                config.node.eligible and self._key_port.can_serve,
                config.limits.members,
                config.election.preempt,
                _timing(config),
                config.key.suite,
                config.limits.connections_per_address,
                config.tls.key_requests,
            )
        )

    def _network_changed(self, network: Network) -> None:
        if network.left_out and not self._config.network.addresses:
            _log.info("more addresses than a node may announce; not announced: %s", ", ".join(network.left_out))
        self._driver.emit(AddressesChanged(self._config.network.addresses or network.addresses, network.prefixes))

    def _failed(self, error: BaseException) -> None:
        """End the daemon after a defect of ours: it must not continue in a broken state."""
        if not self._driver.stopped.done():
            self._driver.stopped.set_exception(error)

    def _notice(self, notice: Notice) -> None:
        self._counters[self._journal.report(notice)] += 1

    def _report_failed_authentication(self, failed: FailedAuthentication) -> None:
        self._journal.log_event(DaemonEvent.AUTHENTICATION_FAILED, str(failed), failed.fields)
        self._control_socket.status_changed()

    def _commanded(self, outcome: CommandOutcome) -> None:
        event = DaemonEvent.COMMAND_DENIED if outcome.denied else DaemonEvent.COMMANDED
        self._journal.log_event(event, str(outcome), outcome.fields)

    def _common_fields(self) -> Fields:
        view = self._node.view()
        return {
            "group": self._settings.group,
            "node": self._settings.me.id,
            "role": view.role,
            "term": view.term,
            "epoch": view.current.epoch if view.current else None,
        }

    def _handled(self) -> None:
        if boot_time() >= self._updated_at + CONDITIONS_EVERY:
            self._update_conditions()
        trouble = "; the last reload failed, see the journal" if self._reloader.failed else ""
        trouble += "" if self._key_port.can_serve else "; no key server, see the journal"
        self._systemd.status(sentence(self._node) + trouble)
        self._control_socket.status_changed()

    def _status(self) -> dict[str, object]:
        self._update_conditions()
        rows, identities = self._conditions.rows(), self._key_server.identities
        away = self._loop_turns.longest()
        return status(self._node, self._settings, self._counters, rows, identities, away, boot_time())

    def _network_report(self) -> dict[str, object]:
        network, heard = self._discovery.network or Network(), self._discovery.heard(time.monotonic())
        view, group, own_id = self._node.view(), self._node.group(), self._settings.me.id
        return network_report(self._config.network, own_id, network, heard, view.master, group, view.master_address)

    def _update_conditions(self) -> None:
        of_machine = find_machine_conditions(
            chosen=self._config.network.interfaces,
            ip=self._config.network.ip,
            network=self._discovery.network,
            has_reload_failed=self._reloader.failed,
            away=self._loop_turns.longest(),
            dead_after=self._config.election.dead_after,
        )
        of_port = () if self._key_port.condition is None else (self._key_port.condition,)
        self._conditions.update((*of_machine, *of_port, *self._discovery.conditions, *self._node.view().conditions))
        self._updated_at = boot_time()

    def _report_condition(self, condition: Condition, begins: bool) -> None:
        event = DaemonEvent.CONDITION_BEGAN if begins else DaemonEvent.CONDITION_ENDED
        text = condition_sentence(condition.text, condition.remedy) if begins else f"over: {condition.text}"
        own = {"condition": condition.kind, "peer": condition.peer, "address": condition.address}
        self._journal.log_event(event, text, own)


def allow_descriptors(config: Config) -> None:
    """Allow as many file descriptors as [limits] may need, or log that there are fewer."""
    allowed = raise_descriptor_limit()
    needed = config.limits.connections + SHARES * config.limits.handshakes + _OTHER_DESCRIPTORS
    if needed > allowed:
        _log.warning(
            "[limits] may need %d open files, but this process may have only %d: raise LimitNOFILE= of the service "
            "or lower connections and handshakes",
            needed,
            allowed,
        )
