"""One run of a scenario: its group, the actions on the group with their times, and the results."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tests.lab.daemon import Daemon
from tests.lab.faults import lossy
from tests.lab.group import Group, Statuses
from tests.lab.laboratory import Laboratory
from tests.lab.losses import Losses, Mark, losses
from tests.lab.namespaces import Host
from tests.lab.roles import as_master, two_masters_ms
from tests.lab.separations import Separations
from tests.lab.standstill import Standstill
from tests.lab.traffic import Traffic

CALM: Final = 0.3
"""Seconds for which a group must stay one before it counts as one, or before a fault begins."""

AFTERMATH: Final = 1.0
"""Seconds after a fault in which its effects on the traffic may still appear."""

PATIENCE: Final = 15.0
"""Seconds that daemons may take to become one group."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The results of a run beside its times."""

    losses: Losses
    dropped_by_network: int
    two_masters_ms: float


class Trial:
    """A group that is not started, and the notes of the actions on it.

    `number` of the run, from 1; `repeats`: how often a scenario that keeps its group repeats its action; `seconds`: how
    long a fault lasts. The scenario enters its times, in seconds, in `measured`, and other times by name in `figures`.
    """

    def __init__(self, laboratory: Laboratory, group: Group, number: int, repeats: int, seconds: float) -> None:
        self.laboratory = laboratory
        self.random = laboratory.random
        self.group = group
        self.number = number
        self.repeats = repeats
        self.seconds = seconds
        self.measured: list[float] = []
        self.figures: defaultdict[str, list[float]] = defaultdict(list)
        self.separations = Separations()
        self._lossy: list[tuple[float, float]] = []
        self._dropped = 0
        """Datagrams dropped on purpose; one that was dropped before the switch counts once for each receiver."""
        self._marks: list[Mark] = []
        self._traffic: Traffic | None = None
        self._standstill: Standstill | None = None
        self._clock_offset = time.monotonic() - time.time()

    async def begin(self) -> Statuses:
        """Start the group, and the traffic on all nodes; return the statuses when all hear all. Raises Failed."""
        self.group.start()
        await self.group.together(PATIENCE)
        self._traffic = Traffic()
        await self._traffic.start(self.group, PATIENCE)
        await self.group.stay_together(CALM)
        _, statuses = await self.group.together(PATIENCE)
        return statuses

    def watch_machine(self) -> None:
        """Measure how long this machine stands still, from now on and without traffic. Raises Failed."""
        self._standstill = Standstill()

    def mark(self, what: str) -> float:
        """Note an action that happens now; return the time, by `time.monotonic`."""
        self._marks.append(Mark(time.monotonic(), what))
        return self._marks[-1].at

    @contextmanager
    def losing(self, percent: int) -> Iterator[None]:
        """Have the network drop `percent` of all packets that a node sends and of all that it receives."""
        since = self.mark(f"lose {percent} %")
        with lossy(self.laboratory.hosts, percent) as dropped:
            yield
        self._lossy.append((since, self.mark("lose nothing")))
        self._dropped += dropped.up * (len(self.group.daemons) - 1) + dropped.down

    def host(self, daemon: Daemon) -> Host:
        """Return the host that a daemon runs on."""
        return self.laboratory.hosts.hosts[self.group.daemons.index(daemon)]

    def others(self, *daemons: Daemon) -> Group:
        """Return the group without these daemons."""
        return Group(daemon for daemon in self.group.daemons if daemon not in daemons)

    async def conclude(self) -> Findings:
        """End the traffic and return the results. Raises Failed."""
        found = Losses()
        since, until = 0.0, time.monotonic()
        if self._traffic is not None:
            notes = await self._traffic.finish()
            since = self._traffic.counted_from
            found = losses(notes, since, self.separations, self._lossy, self._marks)
        if self._standstill is not None:
            found.stalled_ms = max(found.stalled_ms, await self._standstill.finish())
        masters = {d.name: as_master(d.log, d.deaths, d.pauses, self._clock_offset) for d in self.group.daemons}
        return Findings(found, self._dropped, two_masters_ms(masters, self.separations, since, until))

    def transcript(self) -> str:
        """Return the logs of all daemons in one, with the marks."""
        return self.group.transcript(
            (datetime.fromtimestamp(at - self._clock_offset).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3], what)  # noqa: DTZ006
            for at, what in self._marks
        )

    def destroy(self) -> None:
        """End everything that still runs, also after an error."""
        if self._traffic is not None:
            self._traffic.destroy()
        if self._standstill is not None:
            self._standstill.destroy()
        self.group.destroy()
