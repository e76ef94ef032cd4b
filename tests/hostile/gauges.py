"""The costs of an attack for a daemon: absence of its loop, memory, processor time, lines in the log, traffic."""

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.lab.daemon import Daemon, Status
from tests.lab.namespaces import Host, Switch

ASK_EVERY: Final = 0.05
"""Seconds between two round trips on a control socket."""
STARTS_WITHIN: Final = 4.0
"""Seconds that a daemon has for its first answer; the time after them counts as absence of its loop."""
LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a process's memory."""

_CALL: Final = json.dumps({"method": "org.varlink.service.GetInfo"}).encode() + b"\0"
_RSS: Final = re.compile(rb"^VmRSS:\s+(\d+) kB", re.MULTILINE)
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an attack for one daemon. `loop_by`: the source of `loop_away_ms`, `daemon` or `round trips`."""

    loop_away_ms: float
    loop_by: str
    peak_mib: float
    cpu_s: float
    lines: int
    seconds: float
    """How long it was watched."""


class Gauges:
    """Watches one daemon from its start until `stop`, or until it is killed. Needs a running event loop."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._began = time.monotonic()
        self._lines = daemon.log.count("\n")
        self._asked_at = math.inf
        """The time of the unanswered call, by `time.monotonic`; inf: there is none."""
        self._worst = 0.0
        self._peak_kib = 0
        self._cpu_s = 0.0
        self._tasks = [asyncio.create_task(self._ask()), asyncio.create_task(self._look())]

    async def stop(self) -> Cost:
        """Measure for the last time and return the cost."""
        ended = time.monotonic()
        self._worst = max(self._worst, ended - self._asked_at)
        self._note()
        status = await self._daemon.status() if self._daemon.exit_code is None else None
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        away, by = loop_away(status, self._worst)
        lines = self._daemon.log.count("\n") - self._lines
        return Cost(away, by, round(self._peak_kib / 1024, 1), self._cpu_s, lines, ended - self._began)

    def cancel(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()

    async def _look(self) -> None:
        while True:
            self._note()
            await asyncio.sleep(LOOK_EVERY)

    def _note(self) -> None:
        try:
            memory = _RSS.search(self._daemon.proc("status"))
            fields = self._daemon.proc("stat").decode().rpartition(")")[2].split()
        except (OSError, ProcessLookupError):
            return
        if memory is not None:  # a dead process has no memory
            self._peak_kib = max(self._peak_kib, int(memory[1]))
        self._cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS

    async def _ask(self) -> None:
        """Do round trips. The time before the first answer is the start, and no absence unless it takes too long."""
        self._asked_at = self._began + STARTS_WITHIN
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._daemon.control_socket))
                while True:
                    writer.write(_CALL)
                    await reader.readuntil(b"\0")
                    self._worst = max(self._worst, time.monotonic() - self._asked_at)
                    self._asked_at = math.inf
                    await asyncio.sleep(ASK_EVERY)
                    self._asked_at = time.monotonic()
            except (OSError, asyncio.IncompleteReadError):
                self._asked_at = max(self._asked_at, time.monotonic())  # a refused connection is an answer too
                await asyncio.sleep(ASK_EVERY)


def loop_away(status: Status | None, worst_round_trip: float) -> tuple[float, str]:
    """Return the longest absence of a daemon's event loop in milliseconds, and the source of the figure.

    The daemon's own gauge `loop_away_ms` is the most exact. A round trip also contains delays of this process and of
    the machine; it is the only source when a daemon does not answer or has no such gauge.
    """
    if status is not None:
        for place in (status, status["counters"]):
            if "loop_away_ms" in place:
                return float(place["loop_away_ms"]), "daemon"
    return round(1000 * worst_round_trip, 1), "round trips"


def sent_by_hosts(switch: Switch, hosts: Sequence[Host]) -> Mapping[str, tuple[int, int]]:
    """Return how many packets and bytes each host, by its port, has sent so far."""
    ports = {link["ifname"]: link["stats64"]["rx"] for link in json.loads(switch.run("ip", "-s", "-j", "link"))}
    return {host.port: (ports[host.port]["packets"], ports[host.port]["bytes"]) for host in hosts}
