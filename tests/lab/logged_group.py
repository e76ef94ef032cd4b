"""A group that is watched through its logs: calls would take processor time of the daemons, and blur its figures."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from tests.lab.daemon import Daemon, Status
from tests.lab.group import Condition, Failed, Group, Statuses, why_apart

READ_EVERY: Final = 0.02
"""Seconds between two looks at the logs. The times in the logs are exact to a millisecond all the same."""

CALL_EVERY: Final = 0.2
"""Seconds until the daemons are called again, when the logs show one group and their statuses do not."""

SMALL: Final = 10
"""The nodes of a group that starts at once, also where its start is not measured."""

LOADING_AT_ONCE: Final = 4
"""Daemons that may load at one time when a larger group is built for the measurement of something else."""


class LoggedGroup(Group):
    """Daemons with logs as of `[log]`'s defaults. They are called only to confirm what the logs show."""

    def part(self, daemons: Sequence[Daemon]) -> "LoggedGroup":
        """Return some of the daemons as a group."""
        return LoggedGroup(daemons)

    async def start_all(self, within: float) -> None:
        """Start all at once, if they are a SMALL group. Otherwise start one, then LOADING_AT_ONCE at a time.

        Raises Failed.
        """
        if len(self.daemons) <= SMALL:
            self.start()
            return
        deadline = time.monotonic() + within
        first, *waiting = self.daemons
        first.start()
        started = [first]
        while waiting:
            settled = [daemon for daemon in started if _has_joined(daemon)]
            if first in settled:
                free = LOADING_AT_ONCE - (len(started) - len(settled))
                for daemon in waiting[:free]:
                    daemon.start()
                    started.append(daemon)
                del waiting[:free]
            self._check_alive(started)
            if time.monotonic() > deadline:
                raise Failed(f"{len(waiting)} of {len(self.daemons)} nodes not started within {within:.0f} s")
            await asyncio.sleep(READ_EVERY)

    def logged(self) -> Statuses:
        """Return the state of each daemon by its log.

        A log does not show all. The master is taken to list all members, and each node to hold the keys of all.
        """
        names = [daemon.name for daemon in self.daemons]
        logged = {daemon.name: _status_of(daemon, names) for daemon in self.daemons}
        in_use = {daemon.view.fingerprint for daemon in self.daemons}
        held = [{"epoch": 0, "fingerprint": fingerprint, "state": "held"} for fingerprint in in_use if fingerprint]
        for status in logged.values():
            if status is not None:
                status["keys"] += held
        return logged

    async def statuses(self) -> Statuses:
        """Call all daemons."""
        found: dict[str, Status | None] = {}
        await self._look(self.daemons, found)
        return found

    async def together_in_logs(self, within: float, also: Condition = lambda _: None) -> float:
        """Wait until the logs show one group and `also` is true; return when it became so. Raises Failed."""
        deadline = time.monotonic() + within
        while trouble := why_apart(logged := self.logged()) or also(logged):
            self._check_alive(self.daemons)
            if time.monotonic() > deadline:
                raise Failed(f"not one group within {within:.0f} s: {trouble[:2000]}")
            await asyncio.sleep(READ_EVERY)
        return max(daemon.view.changed_at for daemon in self.daemons)

    async def stay_together_in_logs(self, seconds: float) -> None:
        """Check for `seconds` that the logs show one group; it may rekey. Raises Failed."""
        deadline = time.monotonic() + seconds
        while True:
            if trouble := why_apart(self.logged(), may_rekey=True):
                raise Failed(f"they did not stay one group: {trouble[:2000]}")
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(READ_EVERY)

    async def together(self, within: float, also: Condition = lambda _: None) -> tuple[float, Statuses]:
        """As in `Group`; the time is that of the logs, unless the statuses confirm it only later."""
        deadline = time.monotonic() + within
        is_first = True
        while True:
            at = await self.together_in_logs(max(0.0, deadline - time.monotonic()), also)
            seen = time.monotonic()
            statuses = await self.statuses()
            trouble = why_apart(statuses) or also(statuses)
            if trouble is None:
                return at if is_first else seen, statuses
            self._check_alive(self.daemons)
            if time.monotonic() > deadline:
                raise Failed(f"not one group within {within:.0f} s, although the logs show it: {trouble[:2000]}")
            is_first = False
            await asyncio.sleep(CALL_EVERY)

    async def stay_together(self, seconds: float) -> None:
        """As in `Group`; the statuses must confirm it at the end."""
        await self.stay_together_in_logs(seconds)
        if trouble := why_apart(await self.statuses(), may_rekey=True):
            raise Failed(f"they did not stay one group: {trouble[:2000]}")


def _has_joined(daemon: Daemon) -> bool:
    daemon.view.read()
    return daemon.view.role in ("master", "client") and daemon.view.fingerprint is not None


def _status_of(daemon: Daemon, members: Sequence[str]) -> Status | None:
    """Return a status with the parts that a log shows; None: the log has no role yet.

    The term is 0: a node that follows its master into a higher term does not log it.
    """
    view = daemon.view
    view.read()
    if view.role is None:
        return None
    master = daemon.name if view.role == "master" else view.master
    key = {"epoch": view.epoch, "fingerprint": view.fingerprint, "state": "current"}
    return {
        "role": view.role,
        "term": 0,
        "node": {"id": daemon.name, "name": daemon.name},
        "master": {"id": master, "name": master},
        "keys": [key] if view.fingerprint else [],
        "members": [{"id": name} for name in members],
    }
