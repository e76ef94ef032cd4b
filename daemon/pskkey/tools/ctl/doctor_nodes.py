"""The checks of `pskkeyctl doctor` on the other nodes: a sentence for each address, and for each path."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from pskkey.config.psk import Psk
from pskkey.model import count_distinct_digits
from pskkey.rtnetlink.changes import SMALLEST_MTU
from pskkey.tools.ctl.doctor_echo import EchoSockets, PathSize
from pskkey.tools.ctl.doctor_finding import Finding
from pskkey.tools.ctl.doctor_probes import GOOD, PROBE_WITHIN, Answer, Probe, probe_peers
from pskkey.tools.ctl.network_reading import NetworkStatus, PeerStatus
from pskkey.tools.ctl.status_reading import NodeStatus
from pskkey.tools.ctl.status_view import short

_REMEDIES: Final = {
    Answer.OTHER: "give the nodes different addresses, or set [network] addresses or interfaces there",
    Answer.REFUSED: (
        "start pskkeyd there, see pskkeyctl status there for the port of its key server, or let this TCP port through "
        "the firewall there, which may refuse it"
    ),
    Answer.UNREACHABLE: "correct the route to this address, or set [network] addresses or interfaces there",
    Answer.NO_CONNECTION: "let this TCP port through the firewalls of both nodes and of the network between them",
    Answer.NO_HANDSHAKE: (
        "look at the load of that node and at its journal (journalctl -u pskkeyd), or let large packets through: give "
        "the interfaces of both nodes the MTU of the path"
    ),
    Answer.FAILED: "compare `pskkeyctl psk list` on both nodes, and copy the PSK file",
}


def check_nodes(network: NetworkStatus, own: NodeStatus, psk: Psk | None) -> list[Finding]:
    """Connect to each address of the nodes, then measure the size of the packets that reach each node."""
    return asyncio.run(_check_nodes(network, own, psk))


async def _check_nodes(network: NetworkStatus, own: NodeStatus, psk: Psk | None) -> list[Finding]:
    peers = network.peers
    probes = await probe_peers(peers, own.id, network.port, psk)
    digits = count_distinct_digits([own.id, *(peer.id for peer in peers)])
    names = {peer.id: f"{peer.name} ({short(peer.id, digits)})" for peer in peers} | {own.id: "this node itself"}
    found = list(_describe_probes(probes, peers, names))
    if network.peers_left_out:
        found.append(Finding("node", True, "", f"{network.peers_left_out} more nodes are not tried"))
    return found + await _check_paths(probes, peers, names)


def _describe_probes(probes: Sequence[Probe], peers: Sequence[PeerStatus], names: dict[str, str]) -> Iterator[Finding]:
    reached = {probe.peer.id: probe.address for probe in probes if probe.answer in GOOD}
    for probe in probes:
        if probe.answer is Answer.NOT_TRIED:
            continue
        # A node announces all its addresses, and needs one that works: some belong to networks of its containers.
        works_at = reached.get(probe.peer.id)
        text = _describe(probe, names)
        if probe.answer not in GOOD and works_at is not None:
            text += f"; that does no harm, because it answers at {works_at}"
        remedy = "" if works_at is not None else _REMEDIES[probe.answer]
        yield Finding("node", works_at is not None, probe.peer.id, text, remedy)
    for peer in peers:
        if peer.addresses:
            continue
        if peer.is_member:
            # It announces no link-local address. It is reached at the source of its next advert.
            yield Finding("node", True, peer.id, f"{names[peer.id]} is a member, and no address of it is known now")
        else:
            text = f"{names[peer.id]} announces no address, so this node cannot connect to it"
            yield Finding("node", False, peer.id, text, "give it an address, or set [network] addresses there")
    late = [probe for probe in probes if probe.answer is Answer.NOT_TRIED]
    if harmless := sum(probe.peer.id in reached for probe in late):
        yield Finding("node", True, "", f"{harmless} more addresses of nodes that answer are not tried")
    if count := len(late) - harmless:
        text = f"{count} more addresses are not tried, because too many others did not answer"
        yield Finding("node", False, "", text, "repair those first, and run this again")


def _describe(probe: Probe, names: dict[str, str]) -> str:
    node, where = names[probe.peer.id], f"{probe.address} port {probe.peer.port}"
    match probe.answer:
        case Answer.MEANT:
            return f"{node} answers at {where}, connected in {probe.seconds * 1000:.1f} ms"
        case Answer.CONNECTED:
            return f"a program accepts connections at {where} of {node}, connected in {probe.seconds * 1000:.1f} ms"
        case Answer.OTHER:
            other = names.get(probe.node_id or "", "another node with our PSK")
            return f"{node} announces {where}, but {other} answers there"
        case Answer.REFUSED:
            return f"{node} announces {where}, but no program listens there"
        case Answer.UNREACHABLE:
            return f"{node} cannot be reached at {where}: {probe.reason}"
        case Answer.NO_CONNECTION:
            return f"{node} does not answer at {where} within {PROBE_WITHIN:g} s"
        case Answer.NO_HANDSHAKE:
            return f"{node} accepts the connection at {where}, and then sends nothing within {PROBE_WITHIN:g} s"
        case _:
            return f"the handshake with {node} at {where} failed: {probe.reason}"


async def _check_paths(probes: Sequence[Probe], peers: Sequence[PeerStatus], names: dict[str, str]) -> list[Finding]:
    places = {peer.id: place for peer in peers if (place := _place_of(peer, probes)) is not None}
    if not places:
        return []
    try:
        with EchoSockets() as sockets:
            paths = {path.address: path for path in await sockets.measure(list(dict.fromkeys(places.values())))}
    except PermissionError:
        return [Finding("path", True, "", "this user may send no ICMP, so the size of packets is not checked")]
    except OSError as error:
        return [Finding("path", True, "", f"no ICMP ({error.strerror}), so the size of packets is not checked")]
    measured = [peer for peer in peers if places.get(peer.id) in paths]
    return [_describe_path(peer, names[peer.id], paths[places[peer.id]]) for peer in measured]


def _place_of(peer: PeerStatus, probes: Sequence[Probe]) -> str | None:
    """Return the address of a node at which its packets arrive, or may arrive; None: another node has each of them."""
    own = [probe for probe in probes if probe.peer.id == peer.id and probe.answer is not Answer.OTHER]
    own.sort(key=lambda probe: probe.answer not in GOOD)  # the first that works
    return own[0].address if own else None


def _describe_path(peer: PeerStatus, name: str, path: PathSize) -> Finding:
    where = f"{name} at {path.address}"
    if path.arrived is None:
        text = f"{where} answers no ICMP echo request, so the size of packets is not checked"
        return Finding("path", True, peer.id, text)
    if path.arrived >= path.wanted:
        return Finding("path", True, peer.id, f"packets of {path.wanted} bytes get through to {where}")
    text = f"large packets do not get through to {where}: at most {path.arrived} bytes of {path.wanted}"
    remedy = "let larger packets through the network between them"
    if path.arrived >= SMALLEST_MTU[6]:  # with a smaller one, Linux ends IPv6 on an interface
        remedy = f"set the MTU of the interfaces to {path.arrived} on all nodes, or {remedy}"
    return Finding("path", False, peer.id, text, remedy)
