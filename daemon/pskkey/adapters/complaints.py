"""Complaints in the log about others. `log_budget` keeps them few."""

import ipaddress
import logging


class Complaints:
    """Logs warnings about peers, such as "connection from 192.0.2.1" or "user 1000"."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def warn(self, peer: str, reason: str, source: str | None = None) -> None:
        """Log a warning about `peer`. The log budget counts it for `source`, such as a network, or else for `peer`."""
        self._log.warning("%s: %s", peer, reason, extra={"once": peer if source is None else source})


def network_of(address: str) -> str:
    """Return the source that an IP address counts for: itself if it is IPv4, else its /64, which one host has whole.

    An IPv4-mapped IPv6 address counts as its IPv4 address. Text that is no address counts as itself.
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
