"""Socket options that a socket can do without: they only make it faster or more robust.

A kernel, another network protocol (Multipath TCP) or a sandbox may refuse an option. To fail then would cost the
connection, and the option is worth less than that. An option without which a socket does something else, such as
SO_REUSEADDR, IPV6_V6ONLY or a multicast membership, is not set here: its refusal is an error.
"""

import logging
import socket
from collections import Counter
from typing import NamedTuple

_log = logging.getLogger("pskkey.socket_options")


class SocketOption(NamedTuple):
    """An option with its value, as setsockopt(2) takes them. `name` is for people."""

    name: str
    level: int
    number: int
    value: int


class SocketOptions:
    """Sets options, and does without those that are refused. Counters: `socket_options_refused`.

    All parts of a process share one object, so that each option is logged once.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._reported: set[str] = set()  # bounded by the options that our code names

    def set(self, chosen: socket.socket, *options: SocketOption) -> None:
        """Set these options as far as the system allows it."""
        for name, level, number, value in options:
            try:
                chosen.setsockopt(level, number, value)
            except OSError as error:
                self._counters["socket_options_refused"] += 1
                if name not in self._reported:
                    self._reported.add(name)
                    _log.info(
                        "the system refuses the socket option %s: %s; sockets do without it (not logged again)",
                        name,
                        error.strerror,
                    )
