"""The lines of a session that we opened, and how it moves from one to the next when another PSK is to be used.

A *line* is a connection. A session with a master is renewed on a second line, the *candidate*, with the active PSK.
JOIN said on it makes it the session's line; the one before is kept, as the *former*, until there is an answer that is
no ERROR. A server may have no place for a second connection, or fall out with it: then the session goes back to the
former line, says JOIN there again, and tries later. What ends a former line ends no session.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pskkey.adapters.tls_connection import TlsConnection
from pskkey.errors import PskkeyError
from pskkey.psk import Psk, PskFile

PAUSE = 2.5, 7.5
"""Seconds until the next attempt to renew a session, from and to: all members of a group begin at the same time."""

_log = logging.getLogger("pskkey.client")


@dataclass(slots=True, eq=False)
class Line:
    """A connection of a session, and the PSK that it is made with."""

    connection: TlsConnection
    psk: Psk


@dataclass(slots=True, eq=False)
class Lines:
    """The lines of a session: none before it is open, up to two while it is renewed."""

    line: Line | None = None
    candidate: Line | None = None
    former: Line | None = None
    psk_changed: asyncio.Event = field(default_factory=asyncio.Event)
    """The PSK file is another: the next attempt need not wait."""
    _unanswered: bool = False
    _refusal: str | None = None
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, connection: TlsConnection) -> Line | None:
        """Return the line that is this connection."""
        lines = (self.line, self.candidate, self.former)
        return next((line for line in lines if line is not None and line.connection is connection), None)

    def can_spare(self, line: Line) -> bool:
        """Tell whether the session goes on without this line."""
        return line is not self.line or self.former is not None

    def move(self) -> None:
        """JOIN is about to be said on the candidate, if there is one."""
        if self.candidate is not None:
            self.former, self.line, self.candidate = self.line, self.candidate, None
            self._unanswered = True

    def answered(self) -> None:
        """Something that is no ERROR came on the line: if the session has just moved there, it stays."""
        if not self._unanswered or self.line is None:
            return
        self._unanswered = False
        _log.info("a session goes on with PSK identity %a", self.line.psk.identity)
        if self.former is not None:
            self.former.connection.close("its session goes on with another PSK")
            self.former = None
        self._settled.set()

    def drop(self, line: Line, why: str) -> bool:
        """Go on without a line that can be spared; return whether JOIN must be said again, on the former line."""
        line.connection.close("its session goes on without it")
        if line is self.former:
            self.former = None
            return False
        goes_back = line is self.line
        if goes_back:
            self.line, self.former = self.former, None
            self._unanswered = False
        else:
            self.candidate = None
        self._refusal = why
        self._settled.set()
        return goes_back

    def close(self, reason: str) -> None:
        """Close all of them."""
        for line in (self.line, self.candidate, self.former):
            if line is not None:
                line.connection.close(reason)

    async def renew(
        self,
        psk: Callable[[], PskFile],
        make_line: Callable[[TlsConnection, Psk], Line],
        open_line: Callable[[Line], Awaitable[PskkeyError | str | None]],
    ) -> str | None:
        """Move to a line with the active PSK, trying again and again; return None when that is done.

        `make_line` makes one to the same server with a PSK, `open_line` returns why it could not be opened. A session
        whose own PSK was removed does not outlive the first attempt that fails: the reason for its end is returned.
        """
        told = False
        while (line := self.line) is not None and line.psk != (active := psk().active):
            self.psk_changed.clear()
            self._settled.clear()
            self._refusal = None
            self.candidate = make_line(line.connection, active)
            why = await open_line(self.candidate)
            if why is None:
                await self._settled.wait()
            if (why := self._refusal or why) is None:
                continue
            self.candidate = None
            if psk().accepted.get(line.psk.identity) != line.psk.key:
                return f"its PSK, identity {line.psk.identity!a}, was removed from our PSK file: {why}"
            if not told:
                told = True
                _log.warning("a session goes on with PSK identity %a for now: %s", line.psk.identity, why)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.psk_changed.wait(), random.uniform(*PAUSE))  # noqa: S311  no secret
        return None
