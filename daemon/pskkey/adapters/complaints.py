"""Complaints in the log about others. `log_budget` keeps them few."""

import ipaddress
import logging


class Complaints:
    """Logs warnings about peers, such as "connection from 192.0.2.1" or "user 1000"."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def warn(self, peer: str, reason: str, source: str | None = None) -> None:
        """Complain about `peer`. One complaint passes in a while for each `source`, such as a network, or `peer`."""
        self._log.warning("%s: %s", peer, reason, extra={"once": peer if source is None else source})


def network_of(address: str) -> str:
    """Return what an IP address counts as: itself, or with IPv6 its /64, in which one host has all addresses.

    An IPv4 address that is written as an IPv6 one counts as the former, and text that is no address as itself.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
