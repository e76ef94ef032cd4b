"""One run of a scenario: its group, the actions on the group with their times, and the results."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tests.lab.costs import Meter, Reading, Span
from tests.lab.daemon import Daemon
from tests.lab.faults import lossy
from tests.lab.group import Condition, Failed, Statuses, why_apart
from tests.lab.laboratory import Laboratory
from tests.lab.logged_group import LoggedGroup
from tests.lab.losses import Losses, Mark, losses
from tests.lab.namespaces import Host
from tests.lab.roles import as_master, most_masters, two_masters_ms
from tests.lab.separations import Separations
from tests.lab.standstill import Standstill
from tests.lab.traffic import Traffic

CALM: Final = 0.3
"""Seconds for which a group must stay one before it counts as one, or before a fault begins."""

AFTERMATH: Final = 1.0
"""Seconds after a fault in which its effects on the traffic may still appear."""

PATIENCE: Final = 15.0
"""Seconds that few daemons may take to become one group, on a fast processor."""

LOADING: Final = 0.8
"""Seconds of processor time that a daemon may take to load: nodes share this machine's processors."""

QUIET, QUIET_EACH = 1.5, 0.02
"""Seconds after which a group without traffic is at rest, and more for each node: the nodes make their standby sessions
one after the other. They do nothing more about the event before then.
"""

REST: Final = 3.0
"""Seconds for which the cost of a group at rest is measured."""


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
    The cost of each event is in `spans`.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        group: LoggedGroup,
        number: int,
        repeats: int,
        seconds: float,
        *,
        has_traffic: bool = True,
    ) -> None:
        self.laboratory = laboratory
        self.random = laboratory.random
        self.group = group
        self.number = number
        self.repeats = repeats
        self.seconds = seconds
        self.measured: list[float] = []
        self.figures: defaultdict[str, list[float]] = defaultdict(list)
        self.amounts: defaultdict[str, list[float]] = defaultdict(list)
        """Measured values by their names, each with its unit in the name."""
        self.spans: list[Span] = []
        self.patience = laboratory.patience(PATIENCE, LOADING)
        self.separations = Separations()
        self._lossy: list[tuple[float, float]] = []
        self._dropped = 0
        """Datagrams dropped on purpose; one that was dropped before the switch counts once for each receiver."""
        self._marks: list[Mark] = []
        self._has_traffic = has_traffic
        self._traffic: Traffic | None = None
        self._meter = Meter(group.daemons)
        self._standstill: Standstill | None = None
        self._clock_offset = time.monotonic() - time.time()

    async def begin(self) -> Statuses:
        """Start the group, and the traffic on all nodes; return the statuses when all hear all. Raises Failed.

        The daemons load at full speed; from then on they are as slow as the command line has it.
        """
        self.laboratory.set_full_speed()
        await self.group.start_all(self.patience)
        await self.group.together(self.patience)
        if self._has_traffic:
            self._traffic = Traffic()
            await self._traffic.start(self.group, self.patience)
        else:
            self.watch_machine()
        self.laboratory.set_speed()
        return await self.rest()

    async def rest(self) -> Statuses:
        """Wait until the group, which is one, is at rest; measure its cost then; return the statuses. Raises Failed."""
        if self._traffic is None:
            await self.group.stay_together_in_logs(QUIET + QUIET_EACH * len(self.group.daemons))
            await self.measure_rest(REST)
        else:
            await self.group.stay_together(CALM)
        _, statuses = await self.group.together(self.patience)
        return statuses

    async def measure_rest(self, seconds: float) -> Mapping[str, Reading]:
        """Measure the cost of each node in one second, while nothing happens for some seconds. Raises Failed."""
        before, since = self._meter.read(), time.monotonic()
        await self.group.stay_together_in_logs(seconds)
        return self._meter.note_rest(before, time.monotonic() - since)

    async def restore(self) -> Statuses:
        """Wait until all nodes are one group after an event, and at rest; return the statuses. Raises Failed."""
        await self.group.together(self.patience)
        return await self.rest()

    def cause(self, what: str, before: Statuses) -> float:
        """Note an event that happens now, and measure its cost from now on; return the time, by `time.monotonic`.

        `before`: the statuses of all daemons that run; empty: none does.
        """
        self._meter.begin(before)
        self.spans.append(Span(self.mark(what)))
        return self.spans[-1].since

    async def converge(self, group: LoggedGroup, also: Condition = lambda _: None) -> Statuses:
        """Wait until this part of the group is one after the event, and stays one. Return the statuses.

        The time from the event is entered in `measured`, and the cost in `spans`: until AFTERMATH after that time,
        because some of the packets about an event are sent later. The handshakes of the next standby sessions come
        later still, and are not in it. Nobody calls a daemon in that time. Raises Failed.
        """
        span = self.spans[-1]
        together = await group.together_in_logs(self.patience, also)
        self.measured.append(together - span.since)
        await group.stay_together_in_logs(AFTERMATH)
        span.until = time.monotonic()
        masters = [daemon for daemon in group.daemons if daemon.view.role == "master"]
        self._meter.end(span, masters[0] if masters else None)
        statuses = await group.statuses()
        if trouble := why_apart(statuses, may_rekey=True) or also(statuses):
            raise Failed(f"the logs show one group, but the statuses do not: {trouble[:2000]}")
        self._meter.compare(span, statuses)
        as_masters = [self._as_master(daemon) for daemon in self.group.daemons]
        span.masterships = sum(span.since < begin < span.until for spans in as_masters for begin, _ in spans)
        span.masters_at_once = most_masters(as_masters, span.since, span.until)
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

    def others(self, *daemons: Daemon) -> LoggedGroup:
        """Return the group without these daemons."""
        return self.group.part([daemon for daemon in self.group.daemons if daemon not in daemons])

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
        masters = {daemon.name: self._as_master(daemon) for daemon in self.group.daemons}
        return Findings(found, self._dropped, two_masters_ms(masters, self.separations, since, until))

    def _as_master(self, daemon: Daemon) -> list[tuple[float, float]]:
        return as_master(daemon.log, daemon.deaths, daemon.pauses, self._clock_offset)

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
