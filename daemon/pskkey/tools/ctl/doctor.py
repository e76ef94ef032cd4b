"""The verb `doctor` of `pskkeyctl`: why does this node not find its group?

1. It looks at this machine: the daemon, its files, the interfaces, UDP port 5353 and the port of the key server.
2. It shows what the daemon has heard of other nodes.
3. It connects to each address of the known nodes, and measures the size of the packets that reach them.
4. It shows each other condition that the daemon reports.

It changes nothing. Each step has a bound, so that a run lasts at most about 20 s.
"""

import time
from pathlib import Path
from typing import Final, NamedTuple

from pskkey.config.schema import DEFAULT_CONFIG, Config, NetworkTable
from pskkey.errors import NothingListens, PskkeyError
from pskkey.model import ConditionKind
from pskkey.tools.ctl import doctor_machine as machine
from pskkey.tools.ctl.control_client import DEFAULT_SOCKET, Denied, call, get_status
from pskkey.tools.ctl.doctor_finding import Finding
from pskkey.tools.ctl.doctor_group import check_heard, check_other_conditions, check_settings, conditions_of
from pskkey.tools.ctl.doctor_nodes import check_nodes
from pskkey.tools.ctl.instance import config_of, service_of, socket_of
from pskkey.tools.ctl.network_reading import NetworkStatus
from pskkey.tools.ctl.status_reading import Status
from pskkey.tools.ctl.status_view import count_shown_digits, short

MAX_ANSWER_WITHIN: Final = 8.0
"""Seconds: the longest wait for the daemon."""


class _Daemon(NamedTuple):
    """The report of the daemon. `is_running` is False only if no daemon listens at its socket."""

    is_running: bool
    status: Status | None
    network: NetworkStatus | None
    findings: list[Finding]


def examine(config_path: Path | None, socket: Path | None, timeout: float) -> list[Finding]:
    """Return all findings. The daemon has `timeout` seconds to answer, but at most MAX_ANSWER_WITHIN.

    Of `config_path` and `socket`, one that is not given is that of the other.
    """
    path, config, of_config = _read_configuration(config_path, socket)
    if socket is None:
        named = DEFAULT_SOCKET if config is None else config.control.socket
        socket = (socket_of(path) or named) if named == DEFAULT_SOCKET else named
    service = service_of(path) or "pskkeyd"
    daemon = _ask(socket, service, min(timeout, MAX_ANSWER_WITHIN))
    psk, of_psk = (None, []) if config is None else machine.check_psk(path, config)
    found = [*daemon.findings, *of_config, *of_psk, *_check_machine(config, daemon)]
    if daemon.status is not None:
        if daemon.network is not None:
            found += check_heard(daemon.status, daemon.network)
            found += check_nodes(daemon.network, daemon.status.node, None if psk is None else psk.active)
        found += check_settings(daemon.status, None if config is None else config.key.suite.name, service)
        found += check_other_conditions(daemon.status, found)
    return found


def _read_configuration(given: Path | None, socket: Path | None) -> tuple[Path, Config | None, list[Finding]]:
    """Read the configuration that is given, or that of the daemon with this socket; None: it is not known."""
    path = given or (DEFAULT_CONFIG if socket is None else config_of(socket))
    if path is not None:
        return path, *machine.check_configuration(path)
    config, found = machine.check_configuration(DEFAULT_CONFIG)
    if config is not None and config.control.socket == socket:
        return DEFAULT_CONFIG, config, found
    text = f"the configuration of the daemon at {socket} is not known, so it and the PSK are not tried; give --config"
    return DEFAULT_CONFIG, None, [Finding("configuration", True, str(socket), text)]


def _ask(socket: Path, service: str, timeout: float) -> _Daemon:
    deadline = time.monotonic() + timeout
    try:
        _, status = get_status(socket, timeout)
    except Denied as error:
        return _Daemon(True, None, None, [Finding("daemon", False, str(socket), str(error), "then run this again")])
    except NothingListens as error:
        remedy = f"start it: systemctl start {service}; if it does not start: journalctl -u {service} -n 20"
        return _Daemon(False, None, None, [Finding("daemon", False, str(socket), str(error), remedy)])
    except (PskkeyError, TimeoutError, OSError) as error:
        remedy = f"run this again; if this lasts, look at journalctl -u {service} -n 20, and restart it"
        return _Daemon(True, None, None, [Finding("daemon", False, str(socket), str(error), remedy)])
    node = f"{status.node.name} ({short(status.node.id, count_shown_digits(status))})"
    found = [Finding("daemon", True, str(socket), f'{node} is {status.role} in group "{status.group}"')]
    try:
        reply = call(socket, "GetNetwork", {}, max(1.0, deadline - time.monotonic()))
        network = NetworkStatus.parse_untrusted(reply)
    except (PskkeyError, TimeoutError, OSError) as error:
        found.append(Finding("daemon", False, str(socket), str(error), f"restart it: systemctl restart {service}"))
        return _Daemon(True, status, None, found)
    return _Daemon(True, status, network, found)


def _check_machine(config: Config | None, daemon: _Daemon) -> list[Finding]:
    """Check the interfaces and ports with the settings that the daemon uses, or else with those of the file."""
    used = NetworkTable() if config is None else config.network
    names, ip, port, announced = used.interfaces, str(used.ip), used.port, used.addresses
    if daemon.network is not None:
        names, ip, port, announced, *_ = daemon.network
    network, found = machine.check_interfaces(names, ip, announced)
    if (status := daemon.status) is not None:
        faults = conditions_of(status, ConditionKind.MDNS_BLOCKED, ConditionKind.MDNS_PARTIAL)
        found += machine.check_mdns(network, faults, is_running=True)
        found += conditions_of(status, ConditionKind.NO_KEY_SERVER) or [
            Finding("key_server", True, "", f"the key server listens on TCP port {port}")
        ]
    elif not daemon.is_running:
        found += machine.check_mdns(network, (), is_running=False)
        if config is not None:
            found += machine.check_key_port(config.network)
    return found
