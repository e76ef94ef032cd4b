"""The checks of `pskkeyctl doctor` on this machine: files, interfaces, UDP port 5353 and the port of the key server.

They use the rules of the daemon itself, so they find what the daemon finds, also while it does not run.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from pskkey.adapters.discovery.mdns_condition import describe_faults
from pskkey.adapters.discovery.multicast_sockets import PORT, open_sockets
from pskkey.adapters.discovery.network import MAX_MULTICAST, MulticastInterface, Network, look_up
from pskkey.adapters.discovery.port_holder import find_holders
from pskkey.adapters.tls.listening_sockets import (
    EVERYWHERE,
    EVERYWHERE_WITH,
    GIVE_BACK,
    AddressMissing,
    PortTaken,
    bind,
)
from pskkey.config.own_interfaces import Entry, describe_missing
from pskkey.config.psk import PskFile, find_psk_file, load_psk
from pskkey.config.schema import Config, NetworkTable, load_config, node_id
from pskkey.errors import ConfigError, without_keys
from pskkey.rtnetlink.interfaces import Interface, list_interfaces
from pskkey.tools.ctl.doctor_finding import Finding, shorten
from pskkey.tools.ctl.setup_verbs import check_daemon_access, is_closed, is_perhaps_hidden, stored_credential

_VERSIONS: Final[dict[str, Literal["both", "v4", "v6"]]] = {"both": "both", "v4": "v4", "v6": "v6"}
_HOLDERS_WITHIN: Final = 1.0
"""Seconds to search the programs that have a port."""
_MAX_HOLDERS: Final = 8
_MEMBERSHIPS: Final = Path("/proc/sys/net/ipv4/igmp_max_memberships")


def check_configuration(path: Path) -> tuple[Config | None, list[Finding]]:
    """Read the configuration; None: it cannot be used."""
    try:
        config = load_config(path)
    except ConfigError as error:
        if is_closed(path):
            text = f"this user may not read {path}, so it is not checked; run this as root for that"
            return None, [Finding("configuration", True, str(path), text)]
        lines = str(error).splitlines()
        remedy = "correct the file, and restart or reload pskkeyd"
        return None, [Finding("configuration", False, str(path), line, remedy) for line in lines]
    try:
        node_id(config)
    except ConfigError as error:
        remedy = "run systemd-machine-id-setup, and restart pskkeyd"
        return config, [Finding("configuration", False, str(path), str(error), remedy)]
    return config, [Finding("configuration", True, str(path), f"{without_keys(path)} has no mistake")]


def check_psk(path: Path, config: Config) -> tuple[PskFile | None, list[Finding]]:
    """Read the PSK file that the configuration at `path` names; None: we have no PSK, so no TLS handshake."""
    only_tcp = "so only TCP connections are tried, and not the PSK"
    if (credential := stored_credential(path)) is not None:
        text = f"systemd gives the daemon its PSK from {credential}, {only_tcp}"
        return None, [Finding("psk", True, str(credential), text)]
    named, remedy = without_keys(config.psk.file), "correct the PSK file, and restart or reload pskkeyd"
    try:
        file = find_psk_file(config.psk.file, os.environ)
        if is_closed(file):
            text = f"this user may not read {named}, {only_tcp}; run this as root for that"
            return None, [Finding("psk", True, named, text)]
        if is_perhaps_hidden(path, file):
            text = f"{named} does not exist, and this user cannot see whether systemd has a credential, {only_tcp}"
            return None, [Finding("psk", True, named, f"{text}; run this as root for that")]
        psk = load_psk(file, config.handoff.users, config.handoff.groups)
    except ConfigError as error:
        return None, [Finding("psk", False, named, str(error), remedy)]
    try:
        check_daemon_access(path, file)
    except ConfigError as error:
        return psk, [Finding("psk", False, named, str(error), remedy)]
    text = f"{named} has {len(psk.accepted)} pre-shared key{'s' if len(psk.accepted) != 1 else ''}"
    return psk, [Finding("psk", True, named, text)]


def check_interfaces(names: Sequence[str], ip: str, announced: Sequence[str]) -> tuple[Network, list[Finding]]:
    """Report for each interface of this machine why it is used or not. `names` and `ip` are those of [network].

    `announced` are the addresses that the node announces; none given: those of the interfaces.
    """
    try:
        network, interfaces = look_up(names, _VERSIONS.get(ip, "both")), list_interfaces()
    except OSError as error:
        text = f"the kernel does not list the interfaces: {error.strerror}"
        return Network(), [Finding("interface", False, "", text, "run this again; see the log of the kernel")]
    network = replace(network, addresses=tuple(announced) or network.addresses)
    indexes = {each.index for each in network.multicast}
    is_linked = any(each.has_link for each in interfaces if each.index in indexes)
    found = shorten([_explain(each, names, ip, network, is_linked) for each in interfaces], "interfaces")
    if missing := network.missing:
        remedy = "connect it, or correct the name"
        found.append(Finding("interface", False, ", ".join(missing), describe_missing(missing, network.there), remedy))
    if not network.multicast:
        remedy = "connect the network, or give an interface an address; see [network] interfaces and ip"
        found.append(Finding("interface", False, "", "no interface can be used, so no other node is found", remedy))
    return network, found


def check_mdns(network: Network, faults: Sequence[Finding], is_running: bool) -> list[Finding]:
    """Report whether mDNS works. `faults` are those that the daemon reports; without it, try what it would do."""
    if not network.multicast:
        return list(faults)  # the check of the interfaces has the reason
    if not is_running:
        opened = open_sockets(network.multicast)
        opened.close()
        holder = next(find_holders(PORT, _HOLDERS_WITHIN), "another program")
        condition = describe_faults(opened.faults, network.without_mdns, bool(opened.sending), holder)
        faults = [] if condition is None else [Finding("mdns", False, "", condition.text, condition.remedy)]
    if faults:
        return list(faults)
    others = list(find_holders(PORT, _HOLDERS_WITHIN))[:_MAX_HOLDERS]
    shared = f"UDP port {PORT}: {', '.join(others)}" if others else f"UDP port {PORT} is free"
    can = "runs" if is_running else "can run"
    count = len(network.multicast)
    text = f"mDNS {can} on {count} interface{'s' if count != 1 else ''}; {shared}{_memberships()}"
    return [Finding("mdns", True, "", text)]


def check_key_port(network: NetworkTable) -> list[Finding]:
    """Report whether a key server could have its TCP port, while no daemon runs."""
    port, addresses = network.port, network.addresses or EVERYWHERE_WITH[network.ip]
    for address in addresses or EVERYWHERE:
        try:
            bind(address, port).close()
        except AddressMissing as error:
            if addresses:
                return [Finding("key_server", False, address, str(error), GIVE_BACK)]
        except PortTaken:
            if (holder := next(find_holders(port, _HOLDERS_WITHIN, "tcp"), None)) is None:
                # Only `PortReservation` binds a port and does not listen.
                return [Finding("key_server", True, address, f"systemd keeps TCP port {port} for the key server")]
            text = f"TCP port {port} of {address} is in use by {holder}"
            return [Finding("key_server", False, address, text, "stop that program, or set another [network] port")]
        except ConfigError as error:
            return [Finding("key_server", False, address, str(error), "correct [network] port or addresses")]
    return [Finding("key_server", True, "", f"TCP port {port} is free for the key server")]


def _memberships() -> str:
    try:
        return f"; a socket may join {int(_MEMBERSHIPS.read_text('ascii'))} multicast groups"
    except (OSError, ValueError):
        return ""


def _explain(interface: Interface, names: Sequence[str], ip: str, network: Network, is_linked: bool) -> Finding:
    """Return why an interface is used or not. `is_linked`: an interface that is used has a link."""
    label = interface.label
    used = next((each for each in network.multicast if each.index == interface.index), None)
    if used is not None and not interface.has_link and interface.index not in network.inner:
        is_needed = not is_linked or _is_named(interface, names)
        remedy = "connect its cable, or name other interfaces in [network]" if is_needed else ""
        return Finding("interface", not is_needed, label, f"{label} would be used, but it has no link", remedy)
    if used is not None:
        return Finding(
            "interface", True, label, f"{label} is used: {', '.join(_describe_use(interface, used, network))}"
        )
    why, remedy = _reason(interface, names, ip, network)
    return Finding("interface", not remedy, label, f"{label} is not used: {why}", remedy)


def _describe_use(interface: Interface, used: MulticastInterface, network: Network) -> Iterator[str]:
    yield f"mDNS from {' and '.join(filter(None, (used.ipv4, used.ipv6)))}"
    announced = [str(address.ip) for address in interface.addresses if str(address.ip) in network.addresses]
    last = " after all others, as its kind usually leads to containers" if interface.index in network.inner else ""
    yield f"announces {', '.join(announced)}{last}" if announced else "announces no address of it"


def _reason(interface: Interface, names: Sequence[str], ip: str, network: Network) -> tuple[str, str]:
    """Return why an interface is not used, and the remedy; an empty one if the operator may want it so."""
    label, is_named = interface.label, _is_named(interface, names)
    leave_out = "or leave it out in [network] interfaces"
    if names and not is_named:
        return "[network] interfaces does not name it", ""
    if not interface.is_up:
        return "it is down", f"run ip link set {label} up, {leave_out}" if is_named else ""
    if label in network.without_mdns:
        return f"mDNS has its {MAX_MULTICAST} interfaces", "name the interfaces of the group in [network] interfaces"
    if not interface.addresses:
        return "it has no address", f"give it an address, {leave_out}" if is_named else ""
    if not is_named and all(address.ip.is_loopback for address in interface.addresses):
        return "it is loopback", ""
    usable = [address for address in interface.addresses if address.is_usable]
    if not usable and not interface.has_link:
        return "it has no link", f"connect its cable, {leave_out}" if is_named else ""
    if not usable:
        return (
            "the kernel checks its addresses, or another machine has them",
            "run this again, and if this lasts, give it another address",
        )
    if ip != "both" and not any(address.ip.version == int(ip[1]) for address in usable):
        return (
            f"it has no IP{ip} address, and [network] ip is {ip}",
            f"set [network] ip, {leave_out}" if is_named else "",
        )
    return "it has no address that may be used", f"see [network] interfaces, {leave_out}" if is_named else ""


def _is_named(interface: Interface, names: Sequence[str]) -> bool:
    return any(Entry(name).is_here([interface]) for name in names)
