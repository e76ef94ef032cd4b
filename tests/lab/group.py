"""Several daemons that shall be one group, and how to see precisely when they are."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tests.lab.daemon import Daemon, Status

LOOK_EVERY: Final = 0.025
"""Seconds between two looks at a daemon that is not yet as it should be."""

_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
_STAMP_SIZE: Final = 23

type Statuses = Mapping[str, Status | None]
"""The status of each daemon by its name."""

type Condition = Callable[[Statuses], str | None]
"""Returns why something is not yet so, None when it is."""


class Failed(Exception):
    """A run has not shown what it should."""


def key_of(status: Status) -> str | None:
    """Return the fingerprint of the key that a node sends with."""
    return next((key["fingerprint"] for key in status["keys"] if key["state"] == "current"), None)


def epoch_of(status: Status | None) -> int:
    """Return the epoch of the key that a node sends with, 0 when there is none."""
    keys = status["keys"] if status is not None else []
    return next((int(key["epoch"]) for key in keys if key["state"] == "current"), 0)


def epoch_above(epoch: int) -> Condition:
    """Ask that all send with a key of a higher epoch."""

    def why_not(statuses: Statuses) -> str | None:
        below = {name: epoch_of(status) for name, status in statuses.items() if epoch_of(status) <= epoch}
        return f"epochs not above {epoch}: {below}" if below else None

    return why_not


def master_is_not(daemon: Daemon) -> Condition:
    """Ask that another one be the master."""

    def why_not(statuses: Statuses) -> str | None:
        status = statuses[daemon.name]
        return f"{daemon.name} is still the master" if status and status["role"] == "master" else None

    return why_not


def why_apart(statuses: Statuses, *, may_roll: bool = False) -> str | None:
    """Return why these daemons are not one group, None when they are.

    One is: one master, which all others are clients of and which knows all of them, in one term and with one key. With
    `may_roll` they may just be changing to another key, if each of them can receive what any sends.
    """
    known = {name: status for name, status in statuses.items() if status is not None}
    if silent := statuses.keys() - known.keys():
        return f"no status from {', '.join(sorted(silent))}"
    roles = ", ".join(f"{name} {status['role']}" for name, status in known.items())
    masters = [status for status in known.values() if status["role"] == "master"]
    if len(masters) != 1 or any(status["role"] not in ("master", "client") for status in known.values()):
        return f"roles: {roles}"
    (master,) = masters
    for name, status in known.items():
        if status["master"]["id"] != master["node"]["id"]:
            return f"{name} follows {status['master']['name']}, but {master['node']['name']} is the master"
    terms = {name: status["term"] for name, status in known.items()}
    if len(set(terms.values())) != 1:
        return f"terms: {terms}"
    keys = {name: key_of(status) for name, status in known.items()}
    in_use = set(keys.values())
    held = [{key["fingerprint"] for key in status["keys"]} for status in known.values()]
    if None in in_use or (len(in_use) != 1 and not (may_roll and all(in_use <= of_one for of_one in held))):
        return f"keys: {keys}"
    members = {member["id"] for member in master["members"]}
    if missing := [name for name, status in known.items() if status["node"]["id"] not in members]:
        return f"the master does not list {', '.join(missing)}"
    return None


class Group:
    """Daemons to start, watch and stop together."""

    def __init__(self, daemons: Iterable[Daemon]) -> None:
        self.daemons = list(daemons)

    def start(self) -> float:
        """Start all at once; return when, by `time.monotonic`."""
        for daemon in self.daemons:
            daemon.start()
        return self.daemons[0].started_at

    async def together(self, within: float, also: Condition = lambda _: None) -> tuple[float, Statuses]:
        """Wait until they are one group, and `also` so; return when that was, by `time.monotonic`, and their statuses.

        The time is good to about LOOK_EVERY. A daemon that is with one of the others and has a key is left in peace
        until all are, so that looking does not slow down what is looked at. Raises Failed when it takes longer than
        `within` seconds, or when a daemon ends.
        """
        deadline = time.monotonic() + within
        statuses: dict[str, Status | None] = dict.fromkeys(daemon.name for daemon in self.daemons)
        while True:
            looked = time.monotonic()
            pending = [daemon for daemon in self.daemons if not self._is_settled(statuses[daemon.name])]
            # All settled, and yet not one group: somebody is still with a former master.
            await self._look(pending or self.daemons, statuses)
            if (why_apart(statuses) or also(statuses)) is None:
                seen = time.monotonic()
                await self._look(self.daemons, statuses)
                if (why_apart(statuses) or also(statuses)) is None:
                    return seen, statuses
            for daemon in self.daemons:
                if daemon.exit_code is not None:
                    raise Failed(f"{daemon.name} has ended with exit code {daemon.exit_code}")
            if time.monotonic() > deadline:
                raise Failed(f"not one group within {within} s: {why_apart(statuses) or also(statuses)}")
            await asyncio.sleep(max(0.0, looked + LOOK_EVERY - time.monotonic()))

    async def stay_together(self, seconds: float) -> None:
        """Check that they are one group for a while; they may roll their key. Raises Failed."""
        deadline = time.monotonic() + seconds
        statuses: dict[str, Status | None] = {}
        while time.monotonic() < deadline:
            await self._look(self.daemons, statuses)
            if trouble := why_apart(statuses, may_roll=True):
                raise Failed(f"they did not stay one group: {trouble}")
            await asyncio.sleep(2 * LOOK_EVERY)

    async def settled(self, calm: float, within: float, also: Condition = lambda _: None) -> tuple[float, Statuses]:
        """Wait as `together` does, until they stay so for `calm` seconds; return when that began."""
        deadline = time.monotonic() + within
        while True:
            found = await self.together(max(0.0, deadline - time.monotonic()), also)
            try:
                await self.stay_together(calm)
            except Failed:
                if time.monotonic() > deadline:
                    raise
            else:
                return found

    def of(self, statuses: Statuses, role: str) -> list[Daemon]:
        """Return the daemons that had this role."""
        return [d for d in self.daemons if (status := statuses[d.name]) is not None and status["role"] == role]

    async def stop(self) -> None:
        """End those that run, as an operator would. Raises Failed when one does not end as it should."""
        running = [daemon for daemon in self.daemons if daemon.exit_code is None]
        try:
            codes = await asyncio.gather(*(daemon.stop() for daemon in running))
        except TimeoutError as error:
            raise Failed(str(error)) from None
        wrong = {daemon.name: code for daemon, code in zip(running, codes, strict=True) if code != 0}
        if wrong:
            raise Failed(f"exit codes after SIGTERM: {wrong}")

    def destroy(self) -> None:
        """Leave nothing running, whatever has happened."""
        for daemon in self.daemons:
            daemon.destroy()

    def transcript(self, marks: Iterable[tuple[str, str]] = ()) -> str:
        """Return the logs of all in one, by time, with `marks` between them: stamps as in the logs, and texts."""
        entries = [(stamp, f"{stamp} ---- {text}") for stamp, text in marks]
        for daemon in self.daemons:
            stamp = ""
            for line in daemon.log.splitlines():
                if _STAMP.match(line):
                    stamp, line = line[:_STAMP_SIZE], line[_STAMP_SIZE + 1 :]
                entries.append((stamp, f"{stamp:{_STAMP_SIZE}} {daemon.name:>4} {line}"))
        return "\n".join(line for _, line in sorted(entries, key=lambda entry: entry[0]))

    async def _look(self, daemons: Sequence[Daemon], statuses: dict[str, Status | None]) -> None:
        found = await asyncio.gather(*(daemon.status() for daemon in daemons))
        statuses.update(zip((daemon.name for daemon in daemons), found, strict=True))

    def _is_settled(self, status: Status | None) -> bool:
        if status is None or status["role"] not in ("master", "client") or key_of(status) is None:
            return False
        return status["master"]["id"] in {daemon.id for daemon in self.daemons}
