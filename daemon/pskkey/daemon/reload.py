"""Reload: the configuration and the PSK file are read again while the daemon runs.

All or nothing: both files are read and checked, and only then applied. A key that cannot change in a running
daemon keeps its value, is logged by name, and applies at the next restart. The requests that arrive during a reload
cause one more reload.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from pskkey.adapters.host.systemd import Systemd
from pskkey.adapters.local.local_access import LocalAccess
from pskkey.config.psk import PskFile, find_psk_file, load_psk
from pskkey.config.schema import Config, load_config
from pskkey.daemon.event_kinds import DaemonEvent
from pskkey.daemon.journal import Journal
from pskkey.errors import ConfigError, without_keys
from pskkey.model import Suite

AT_RUN_TIME: Final[Mapping[str, frozenset[str]]] = {
    "node": frozenset({"name", "priority", "eligible"}),
    "psk": frozenset({"file"}),
    "tls": frozenset({"legacy_clients", "key_requests"}),
    "election": frozenset({"discovery_window", "claim_step", "heartbeat_interval", "dead_after", "preempt"}),
    "key": frozenset(
        {"suite", "rekey_interval", "rekey_on_leave", "expires_after", "activation_deadline", "retire_after"}
    ),
    "handoff": frozenset({"users", "groups"}),
    "control": frozenset({"users", "groups"}),
    "limits": frozenset({"connections", "connections_per_address", "handshakes", "handshake_timeout", "members"}),
    "log": frozenset({"level"}),
}
"""The keys that apply at a reload, by their tables; all others apply at a restart."""

SETTLED_AFTER: Final = 0.2
SETTLED_WITHIN: Final = 5.0
"""Seconds for which a file must be unchanged before it is read, and the time limit for that."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The content of the operator's files, checked."""

    config: Config
    psk: PskFile
    handoff: LocalAccess
    control: LocalAccess


class SettingChange(NamedTuple):
    """A key whose value differs."""

    table: str
    key: str
    before: object
    after: object

    @property
    def applies(self) -> bool:
        """Whether it applies without a restart."""
        return self.key in AT_RUN_TIME.get(self.table, ())

    def __str__(self) -> str:
        before, after = _shown(self.before), _shown(self.after)
        return f"[{self.table}] {self.key} changed" + (f" from {before} to {after}" if before != after else "")


def changes(before: Config, after: Config) -> Iterator[SettingChange]:
    """Yield the keys that differ, in the order of the file."""
    for table in Config.model_fields:
        one, other = getattr(before, table), getattr(after, table)
        for key in type(one).model_fields:
            if getattr(one, key) != getattr(other, key):
                yield SettingChange(table, key, getattr(one, key), getattr(other, key))


def without(config: Config, rejected: list[SettingChange]) -> Config:
    """Return `config` with the former values of these keys."""
    tables: dict[str, Any] = {}
    for change in rejected:
        table = tables.get(change.table, getattr(config, change.table))
        tables[change.table] = table.model_copy(update={change.key: change.before})
    return config.model_copy(update=tables)


class Reloader:
    """Serves requests to reload, one after the other, from `start` to `stop`."""

    def __init__(
        self,
        path: Path,
        config: Config,
        environ: Mapping[str, str],
        apply: Callable[[Inputs], None],
        systemd: Systemd,
        journal: Journal,
    ) -> None:
        """`config` is in use now, and was read from the file at `path`."""
        self._path = path
        self._config = config
        self._environ = environ
        self._apply = apply
        self._systemd = systemd
        self._journal = journal
        self._wanted = asyncio.Event()
        self._server: asyncio.Task[None] | None = None
        self.failed = False
        """Whether the files that were read last have a mistake."""

    def request(self) -> None:
        """Reload as soon as possible, but not before `start`."""
        self._wanted.set()

    def start(self, failed: Callable[[BaseException], None]) -> None:
        """Serve requests. `failed` is called with the error if a defect of ours ends this."""
        self._server = asyncio.create_task(self._serve())
        self._server.add_done_callback(
            lambda done: None if done.cancelled() or (error := done.exception()) is None else failed(error)
        )

    async def stop(self) -> None:
        """Stop serving. A reload that has not applied anything yet is given up."""
        if self._server is not None:
            self._server.cancel()
            await asyncio.gather(self._server, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._systemd.reloading()
            try:
                await self._reload()
            finally:
                self._systemd.reloaded()

    async def _reload(self) -> None:
        try:
            inputs = await self._read()
        except ConfigError as error:
            self.failed = True
            first, *others = str(error).splitlines()
            more = f" (and {len(others)} more; `pskkeyctl check-config` shows all)" if others else ""
            text = f"not reloaded, nothing changed: {without_keys(first)}{more}"
            self._journal.log_event(DaemonEvent.RELOAD_FAILED, text)
            return
        self.failed = False
        found = list(changes(self._config, inputs.config))
        later = [change for change in found if not change.applies]
        self._config = without(inputs.config, later)
        self._apply(Inputs(self._config, inputs.psk, inputs.handoff, inputs.control))
        applied = [str(change) for change in found if change.applies]
        applied.append(_describe_psk(inputs.psk))
        self._journal.log_event(DaemonEvent.RELOADED, f"reloaded: {'; '.join(applied)}")
        for change in later:
            setting = f"{change.table}.{change.key}"
            self._journal.log_event(
                DaemonEvent.RESTART_NEEDED, f"{change}: takes effect at the next restart", {"setting": setting}
            )

    async def _read(self) -> Inputs:
        await _wait_until_settled(self._path)
        config = load_config(self._path)
        psk_file = find_psk_file(config.psk.file, self._environ)
        await _wait_until_settled(psk_file)
        return Inputs(
            config,
            load_psk(psk_file, config.handoff.users, config.handoff.groups),
            LocalAccess.of(config.handoff.users, config.handoff.groups),
            LocalAccess.of(config.control.users, config.control.groups),
        )


async def _wait_until_settled(path: Path) -> None:
    """Wait until no process writes to a file any more, because a part of a configuration may be a valid one.

    Raises ConfigError when the file changes for too long.
    """
    deadline = time.monotonic() + SETTLED_WITHIN
    seen = None
    while (look := _look(path)) is not None:
        age = time.time() - look[2] / 1e9
        # When the clock was set back, the file seems new for a long time. Then two equal looks are enough.
        if age > SETTLED_AFTER or look == seen:
            return
        if time.monotonic() > deadline:
            raise ConfigError(f"{without_keys(path)}: is still being written; reload when it is complete")
        seen = look
        await asyncio.sleep(SETTLED_AFTER)


def _look(path: Path) -> tuple[int, int, int] | None:
    """Return values that change when a file is written or replaced; None when there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _describe_psk(psk: PskFile) -> str:
    count = len(psk.accepted)
    active = without_keys(repr(psk.active.identity))
    return f"PSK file: {count} identit{'y' if count == 1 else 'ies'} accepted, {active} in use"


def _shown(value: object) -> str:
    """Return a value as it stands in the file, with every part hidden that may be a key."""
    match value:
        case None:
            return "unset"
        case Suite():
            return f'"{value.name}"'
        case Path():
            return without_keys(f'"{value}"')
        case _:
            return without_keys(json.dumps(value, ensure_ascii=True))
