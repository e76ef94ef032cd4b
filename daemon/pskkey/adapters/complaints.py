"""Complaints about peers in the log, few enough that nobody can fill it."""

import logging
import time
from typing import Final

PERIOD: Final = 10.0
"""Seconds in which one line about each peer is told."""

MAX_PEERS: Final = 256
"""Peers that are told of in one period."""


class Complaints:
    """Tells at most one line about each peer in ten seconds as a warning, and the rest as debugging output."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, float] = {}

    def warn(self, peer: str, reason: str) -> None:
        """Complain about `peer`, such as "connection from 10.0.0.1" or "user 1000"."""
        now = time.monotonic()
        if len(self._said) >= MAX_PEERS:
            self._said = {other: at for other, at in self._said.items() if now - at < PERIOD}
        if now - self._said.get(peer, -PERIOD) < PERIOD or len(self._said) >= MAX_PEERS:
            self._log.debug("%s: %s", peer, reason)
            return
        self._said[peer] = now
        self._log.warning("%s: %s (more of it within %d s is not told)", peer, reason, PERIOD)
