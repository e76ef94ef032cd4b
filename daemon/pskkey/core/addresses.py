"""The addresses of the other nodes, and the order in which this node tries them.

A node announces up to eight addresses. Some lead nowhere, because they belong to networks inside the machine, for
instance of its containers. Some lead to another node, which has the same address in a network of its own. So this node
tries the addresses in the order of their likelihood:

1. An address at which another node, or nobody but this node, answers comes last.
2. The address at which the peer answered last comes first.
3. Then comes the address from which its advert came: the peer sent that packet on a link of ours.
4. Then come the addresses in a network of ours. The other addresses follow as they were announced.
5. A node with more than eight addresses leaves some out. So the source of its advert comes after the others if it is
   in a network of ours.

An IPv6 link-local address is valid on one link only, so a node announces none that its operator has not named. An
announced one is tried on the links on which adverts of the node arrive. And an advert comes from such an address
if its sender has no better one. This node keeps the last MAX_SOURCES addresses that are not announced, and among them
the one that worked. A stranger can replay an advert and add its own address as a source: the handshake with it fails,
and the next address is tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from pskkey.core.settings import Settings
from pskkey.model import Advert, Member

MAX_SOURCES: Final = 3
"""Sources of a node that are kept though it announces none of them: one for each link that we share, if not more."""

MAX_NODES: Final = 2048
"""Nodes that are kept. The node that was updated the longest ago makes room for a new one."""


@dataclass(slots=True)
class _Known:
    """The experience with one node."""

    worked: str = ""
    source: str = ""
    not_announced: tuple[str, ...] = ()
    """Sources that were in no advert, the last one first."""
    of_others: set[str] = field(default_factory=set)


class AddressBook:
    """The experience with the addresses of all nodes, by node id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nodes: dict[str, _Known] = {}
        self._prefixes: tuple[IPv4Network | IPv6Network, ...] = ()

    def set_prefixes(self, prefixes: tuple[str, ...]) -> None:
        """Set the networks of this node, such as "192.0.2.0/24"."""
        self._prefixes = tuple(ip_network(prefix, strict=False) for prefix in prefixes)

    def note_source(self, advert: Advert, source: str) -> None:
        """Record the address from which an advert came. Ignore one that is not announced in it and not near."""
        if source not in advert.addresses:
            if not source or not ("%" in source or self._is_near(source)):
                return
            known = self._known(advert.id)
            others = sorted((other for other in known.not_announced if other != source), key=known.worked.__ne__)
            known.not_announced = (source, *others)[:MAX_SOURCES]
        self._known(advert.id).source = source

    def note_answer(self, node_id: str, address: str) -> None:
        """Record that a node has answered at an address and proved its id."""
        if address:
            known = self._known(node_id)
            known.worked = address
            known.of_others.discard(address)

    def note_other_node(self, node_id: str, address: str) -> None:
        """Record that another node has answered at an address of this one."""
        known = self._known(node_id)
        known.of_others.add(address)
        if known.worked == address:
            known.worked = ""

    def order(self, peer: Member) -> tuple[str, ...]:
        """Return the addresses of a peer in the order in which to try them."""
        known = self._nodes.get(peer.id, _Known())
        announced = tuple(_with_zones(peer.addresses, known.not_announced))
        more = tuple(source for source in known.not_announced if source not in announced)
        addresses = announced + more
        known.of_others.intersection_update(addresses)

        def rank(address: str) -> tuple[bool, bool, bool, bool, bool]:
            is_wrong = address in known.of_others or address in self._settings.me.addresses
            is_left_out = address in more and "%" not in address
            is_near = self._is_near(address)
            return is_wrong, address != known.worked, is_left_out, address != known.source, not is_near

        return tuple(sorted(addresses, key=rank))

    def _is_near(self, address: str) -> bool:
        found = ip_address(address)
        return any(found.version == prefix.version and found in prefix for prefix in self._prefixes)

    def _known(self, node_id: str) -> _Known:
        known = self._nodes.pop(node_id, None) or _Known()
        while len(self._nodes) >= MAX_NODES:
            del self._nodes[next(iter(self._nodes))]
        self._nodes[node_id] = known
        return known


def _with_zones(addresses: tuple[str, ...], sources: tuple[str, ...]) -> Iterator[str]:
    """Yield the addresses, but a link-local one, which is announced without a zone, with each zone of the sources."""
    zones = dict.fromkeys(source.partition("%")[2] for source in sources if "%" in source)
    for address in addresses:
        found = ip_address(address)
        if found.version == 6 and found.is_link_local:
            yield from (f"{address}%{zone}" for zone in zones)
        else:
            yield address
