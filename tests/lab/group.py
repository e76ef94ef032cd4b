"""Several daemons that shall be one group, and the exact time when they become one."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tests.lab.daemon import Daemon, Status

LOOK_EVERY: Final = 0.025
"""Seconds between two calls of a daemon that is not yet in the expected state."""

_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
_STAMP_SIZE: Final = 23

type Statuses = Mapping[str, Status | None]
"""The status of each daemon by its name."""

type Condition = Callable[[Statuses], str | None]
"""Returns why a condition is not yet true; None: it is true."""


class Failed(Exception):
    """A run has failed."""


def key_of(status: Status) -> str | None:
    """Return the fingerprint of the key that a node sends with."""
    return next((key["fingerprint"] for key in status["keys"] if key["state"] == "current"), None)


def epoch_of(status: Status | None) -> int:
    """Return the epoch of the key that a node sends with; 0: it has none."""
    keys = status["keys"] if status is not None else []
    return next((int(key["epoch"]) for key in keys if key["state"] == "current"), 0)


def epoch_above(epoch: int) -> Condition:
    """Require that all nodes send with a key of a higher epoch."""

    def why_not(statuses: Statuses) -> str | None:
        below = {name: epoch_of(status) for name, status in statuses.items() if epoch_of(status) <= epoch}
        return f"epochs not above {epoch}: {below}" if below else None

    return why_not


def master_is_not(daemon: Daemon) -> Condition:
    """Require that another node is the master."""

    def why_not(statuses: Statuses) -> str | None:
        status = statuses[daemon.name]
        return f"{daemon.name} is still the master" if status and status["role"] == "master" else None

    return why_not


def why_apart(statuses: Statuses, *, may_rekey: bool = False) -> str | None:
    """Return why these daemons are not one group; None: they are one.

    One group has one master. All others are its clients, and it lists all of them. All have one term and one key. With
    `may_rekey` the keys may differ while a rekey is going on, if each of them holds the keys that all others send with.
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
    if None in in_use or (len(in_use) != 1 and not (may_rekey and all(in_use <= of_one for of_one in held))):
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
        """Wait until they are one group and `also` is true; return the time, by `time.monotonic`, and their statuses.

        The time is exact to about LOOK_EVERY. A daemon that follows a daemon of the group and has a key is not called
        until all have reached that state: calls would slow it down. Raises Failed when this takes longer than `within`
        seconds, or when a daemon ends.
        """
        deadline = time.monotonic() + within
        statuses: dict[str, Status | None] = dict.fromkeys(daemon.name for daemon in self.daemons)
        while True:
            looked = time.monotonic()
            pending = [daemon for daemon in self.daemons if not self._is_settled(statuses[daemon.name])]
            # All are settled, but not one group: a daemon still follows a former master.
            await self._look(pending or self.daemons, statuses)
            if (why_apart(statuses) or also(statuses)) is None:
                seen = time.monotonic()
                await self._look(self.daemons, statuses)
                if (why_apart(statuses) or also(statuses)) is None:
                    return seen, statuses
            self._check_alive(self.daemons)
            if time.monotonic() > deadline:
                raise Failed(f"not one group within {within} s: {why_apart(statuses) or also(statuses)}")
            await asyncio.sleep(max(0.0, looked + LOOK_EVERY - time.monotonic()))

    async def stay_together(self, seconds: float) -> None:
        """Check for `seconds` that they are one group; it may rekey. Raises Failed."""
        deadline = time.monotonic() + seconds
        statuses: dict[str, Status | None] = {}
        while time.monotonic() < deadline:
            await self._look(self.daemons, statuses)
            if trouble := why_apart(statuses, may_rekey=True):
                raise Failed(f"they did not stay one group: {trouble}")
            await asyncio.sleep(2 * LOOK_EVERY)

    async def settled(self, calm: float, within: float, also: Condition = lambda _: None) -> tuple[float, Statuses]:
        """Wait until they are one group for `calm` seconds; return what `together` found at its start."""
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
        """End the running daemons with SIGTERM. Raises Failed when one does not end, or not with exit code 0."""
        running = [daemon for daemon in self.daemons if daemon.exit_code is None]
        try:
            codes = await asyncio.gather(*(daemon.stop() for daemon in running))
        except TimeoutError as error:
            raise Failed(str(error)) from None
        wrong = {daemon.name: code for daemon, code in zip(running, codes, strict=True) if code != 0}
        if wrong:
            raise Failed(f"exit codes after SIGTERM: {wrong}")

    def destroy(self) -> None:
        """End everything that still runs, also after an error."""
        for daemon in self.daemons:
            daemon.destroy()

    def transcript(self, marks: Iterable[tuple[str, str]] = ()) -> str:
        """Return the logs of all daemons in one, by time, with `marks` (stamp as in the logs, text) between them."""
        entries = [(stamp, f"{stamp} ---- {text}") for stamp, text in marks]
        for daemon in self.daemons:
            stamp = ""
            for line in daemon.log.splitlines():
                if _STAMP.match(line):
                    stamp, line = line[:_STAMP_SIZE], line[_STAMP_SIZE + 1 :]
                entries.append((stamp, f"{stamp:{_STAMP_SIZE}} {daemon.name:>4} {line}"))
        return "\n".join(line for _, line in sorted(entries, key=lambda entry: entry[0]))

    def _check_alive(self, daemons: Sequence[Daemon]) -> None:
        for daemon in daemons:
            if daemon.exit_code is not None:
                raise Failed(f"{daemon.name} has ended with exit code {daemon.exit_code}")

    async def _look(self, daemons: Sequence[Daemon], statuses: dict[str, Status | None]) -> None:
        found = await asyncio.gather(*(daemon.status() for daemon in daemons))
        statuses.update(zip((daemon.name for daemon in daemons), found, strict=True))

    def _is_settled(self, status: Status | None) -> bool:
        if status is None or status["role"] not in ("master", "client") or key_of(status) is None:
            return False
        return status["master"]["id"] in {daemon.id for daemon in self.daemons}
