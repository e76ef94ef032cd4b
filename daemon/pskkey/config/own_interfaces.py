"""The configured interfaces that this machine does not have at present."""

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

MAX_NAMED: Final = 20
"""Interfaces of this machine that a sentence names; a machine with containers has hundreds."""


def missing_interfaces(names: Sequence[str]) -> tuple[str, ...]:
    """Return the `names`, interface names and IP addresses, that this machine does not have, in their order.

    A look needs a file descriptor. When none is left, nothing counts as missing.
    """
    return tuple(name for name in names if not _is_here(name))


def describe_missing(missing: Sequence[str]) -> str:
    """Return the sentence for the operator about interfaces that are missing."""
    there = _interfaces()
    more = f" and {len(there) - MAX_NAMED} more" if len(there) > MAX_NAMED else ""
    has = (", ".join(there[:MAX_NAMED]) or "none that can be listed") + more
    return f"[network] interfaces: this machine has no {' and no '.join(missing)} now; it has {has}"


def _interfaces() -> list[str]:
    """Return the names of this machine's interfaces; none when no file descriptor is left to ask with."""
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:
        return []


def _is_here(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            socket.if_nametoindex(name)
        except OSError:  # with the same error when no descriptor is left
            return not _interfaces()
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((name, 0))
    except OSError as error:
        # The kernel refuses a link-local IPv6 address without its scope, which the configuration does not name.
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
