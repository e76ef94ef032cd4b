"""Finds out when all that had arrived at the sockets was read.

A process that did not run for a while has a deadline in the past and messages that wait. It must not take their senders
for silent before it has read them.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from pskkey.adapters.fair_turns import FairTurns

DATAGRAMS_WITHIN: Final = 1.0
"""Seconds for which datagrams may take. A stranger can send them faster than we read, and must not delay a failover."""


class Reading:
    """Follows what arrives on its way: the event loop looks at the sockets, then the sessions have their steps."""

    def __init__(self, turns: FairTurns, had_more: Callable[[], bool]) -> None:
        """`had_more` returns whether a turn has left datagrams at a socket since the last call."""
        self._turns = turns
        self._had_more = had_more

    def when_done(self, done: Callable[[], None]) -> None:
        """Call `done` when each session with data that has arrived by now has emitted a message of it.

        By then all datagrams that have arrived by now were read too, or DATAGRAMS_WITHIN is over.
        """
        self._look(done, asyncio.get_running_loop().time() + DATAGRAMS_WITHIN)

    def _look(self, done: Callable[[], None], until: float) -> None:
        loop = asyncio.get_running_loop()
        # The present turn of the loop has looked at the sockets before now. The next one looks after this callback is
        # queued, so it calls the readers of the sockets after it, and all before the callback of the turn after.
        loop.call_soon(loop.call_soon, self._sockets_read, done, until)

    def _sockets_read(self, done: Callable[[], None], until: float) -> None:
        if self._had_more() and asyncio.get_running_loop().time() < until:
            self._look(done, until)
            return

        def step() -> bool:
            done()
            return False

        self._turns.offer(step)  # behind the steps that wait
