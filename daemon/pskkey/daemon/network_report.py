"""The content of `GetNetwork`: the network as this node sees it, for an operator whose nodes do not meet."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from pskkey.adapters.discovery.heard_adverts import HeardAdvert
from pskkey.adapters.discovery.network import Network
from pskkey.config.schema import NetworkTable
from pskkey.model import Group, Member

SCHEMA: Final = 1

MAX_PEERS: Final = 128
"""Peers of a report. Each has up to nine addresses, so a report has at most about 100 KB."""


def network_report(
    settings: NetworkTable,
    own_id: str,
    network: Network,
    heard: Sequence[HeardAdvert],
    master: Member | None,
    group: Group | None,
    master_address: str | None,
) -> dict[str, Any]:
    """Return the report of schema 1. Fields are added, never renamed.

    `heard` are the adverts of the last minute. `master` and `group` are those of this node, and `master_address` is
    where the master has answered; None without a master.
    """
    networks = [ip_network(prefix, strict=False) for prefix in network.prefixes]
    # The master comes first, then the nodes that were heard, then the other members.
    members = {member.id: member for member in (*([master] if master else ()), *(group.members if group else ()))}
    adverts = {row.node_id: row for row in heard if row.node_id is not None}
    order = dict.fromkeys([*([master.id] if master else []), *adverts, *members])
    peers = [node_id for node_id in order if node_id != own_id]
    return {
        "schema": SCHEMA,
        "interfaces": list(settings.interfaces),
        "ip": settings.ip,
        "port": settings.port,
        "addresses": list(settings.addresses or network.addresses),
        "peers": [
            _peer(
                peer,
                adverts.get(peer),
                members.get(peer),
                networks,
                master_address if master is not None and peer == master.id else None,
            )
            for peer in peers[:MAX_PEERS]
        ],
        "peers_left_out": max(0, len(peers) - MAX_PEERS),
        "heard": [
            {
                "kind": row.kind,
                "name": row.name,
                "id": row.node_id,
                "group": row.group,
                "source": row.source,
                "age_s": round(row.age, 1),
            }
            for row in heard
        ],
    }


def _peer(
    node_id: str,
    advert: HeardAdvert | None,
    member: Member | None,
    networks: Sequence[IPv4Network | IPv6Network],
    worked: str | None,
) -> dict[str, Any]:
    """Return a peer with its addresses, the likely ones first: where it has `worked`, and the source of its advert."""
    name, addresses, port = "", [] if worked is None else [worked], 0
    if (known := advert or member) is not None:
        name, port = known.name, known.port
        source = "" if advert is None else advert.source
        addresses += [address for address in known.addresses if address == source]
        addresses += [address for address in known.addresses if not _lacks_zone(address)]
        if source and _is_tried(source, networks):
            addresses.append(source)
    return {
        "id": node_id,
        "name": name,
        "addresses": list(dict.fromkeys(addresses)),
        "port": port,
        "is_member": member is not None,
    }


def _lacks_zone(address: str) -> bool:
    """Return whether nobody can connect to an announced address: a link-local one is valid on one link only."""
    found = ip_address(address)
    return found.version == 6 and found.is_link_local and found.scope_id is None


def _is_tried(source: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Return whether this node tries the source of an advert that does not announce it (`core.addresses`)."""
    if "%" in source:
        return True
    address = ip_address(source)
    return any(address.version == network.version and address in network for network in networks)
