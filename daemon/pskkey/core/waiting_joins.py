"""The JOINs of members that have lost the master earlier than this node.

The members of a lost master ask the first successor that they can reach, but some notice the loss earlier than this
successor does. Their JOINs wait at it, so that they need not ask again:

1. A JOIN waits if its sender has our term, so it was a member of our master, and if we may become master.
2. This node answers with a heartbeat at once, so that the joiner knows that it is alive.
3. When this node becomes master, it processes the waiting JOINs in the order of their arrival.
4. If our master sends a message `heartbeat_interval` after a JOIN or later, our master is alive. Then the JOIN is
   refused with `not_master`. The time is for messages that the master had sent before it was lost.
5. All waiting JOINs are refused when this node joins a master, or listens.
"""

from typing import Final

from pskkey.core.events import Session
from pskkey.model import Join

JOINS_AT_ONCE: Final = 4
"""Waiting JOINs that are processed for one event, so that the event loop is not away for long."""


class WaitingJoins:
    """The waiting JOINs, one for each session."""

    def __init__(self) -> None:
        self._waiting: dict[Session, tuple[Join, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, session: Session, join: Join, now: float) -> None:
        """Let a JOIN wait, which came at `now` (seconds)."""
        self._waiting[session] = (join, now)

    def remove(self, session: Session) -> None:
        """Forget the JOIN of a session that is over."""
        self._waiting.pop(session, None)

    def take(self, most: int) -> list[tuple[Session, Join]]:
        """Remove and return the JOINs that wait the longest, at most so many."""
        taken = [(session, join) for session, (join, _) in list(self._waiting.items())[:most]]
        for session, _ in taken:
            del self._waiting[session]
        return taken

    def take_until(self, latest: float) -> list[Session]:
        """Remove the JOINs that came at `latest` or earlier, and return their sessions."""
        sessions = [session for session, (_, since) in self._waiting.items() if since <= latest]
        for session in sessions:
            del self._waiting[session]
        return sessions
