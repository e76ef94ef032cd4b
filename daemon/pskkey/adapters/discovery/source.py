"""The address that a datagram came from."""

import re
import socket
from typing import Any, Final, NamedTuple, Self

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
"""The names of interfaces that every reader of an address accepts in its zone."""


class Source(NamedTuple):
    """An IP address. `scope` is the index of the interface if it is a link-local IPv6 address, otherwise 0."""

    address: str
    scope: int

    @classmethod
    def of(cls, address: tuple[Any, ...]) -> Self:
        """Return the source for the address of an IPv4 or IPv6 socket."""
        return cls(address[0], address[3] if len(address) > 3 else 0)

    def __str__(self) -> str:
        """Return the address with its zone, such as "fe80::1%eth0".

        The zone is the name of the interface. It is the index if the name has other characters than letters, digits,
        ".", "_" and "-", or if the interface has vanished.
        """
        if not self.scope:
            return self.address
        try:
            name = socket.if_indextoname(self.scope)
        except OSError:
            name = ""
        return f"{self.address}%{name if _PLAIN_NAME.fullmatch(name) else self.scope}"
