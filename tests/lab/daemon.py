"""A real `pskkeyd` process with a directory of its own: configuration, sockets and log."""

import asyncio
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.lab.log_view import LogView

PSKKEYD: Final = Path(sys.executable).with_name("pskkeyd")
STOP_WITHIN: Final = 10.0
"""Seconds that a daemon may take to end after SIGTERM."""
ANSWER_WITHIN: Final = 2.0
"""Seconds that a call waits for its answer."""

type Tables = Mapping[str, Mapping[str, object]]
type Status = dict[str, Any]

_LONGEST_REPLY: Final = 1 << 24


class Refused(Exception):
    """The daemon has answered a call with an error."""


class Control:
    """Calls the daemon over one connection that stays open: cheap enough to be done a hundred times a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def status(self) -> Status | None:
        """Return the daemon's status; None: it does not answer, because it starts or has ended."""
        try:
            return await self.call("GetStatus")
        except (OSError, asyncio.IncompleteReadError):
            return None

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of io.pskkey.Control and return its answer.

        Raises Refused, and OSError or IncompleteReadError when there is no answer.
        """
        request = {"method": f"io.pskkey.Control.{method}", "parameters": parameters}
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(self._path, limit=_LONGEST_REPLY)
                reader, writer = self._streams
                writer.write(json.dumps(request).encode() + b"\0")
                reply = json.loads((await reader.readuntil(b"\0"))[:-1])
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The answer may still arrive: on this connection it would count as the answer to the next call.
            self.close()
            raise
        if "error" in reply:
            raise Refused(f"{reply['error']} {reply.get('parameters', {})}")
        answer: dict[str, Any] = reply.get("parameters", {})
        return answer

    def close(self) -> None:
        """Close the connection; `status` opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(frozen=True, slots=True)
class Launch:
    """How a daemon is started: its command line, additions to our environment, descriptors that it inherits."""

    command: tuple[str | Path, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


class Daemon:
    """One daemon, which may be started several times. `prefix` goes before its command line.

    `tables` is the rest of the configuration: the sockets are in `directory`, and the node has the name of the
    directory. Its id is random unless `tables` has one.
    """

    def __init__(self, directory: Path, tables: Tables, prefix: Sequence[str] = ()) -> None:
        self.name = directory.name
        self.directory = directory
        self.prefix = tuple(prefix)
        self.keys_socket = directory / "keys.sock"
        self.control_socket = directory / "control.sock"
        node = {"name": self.name, "id": secrets.token_hex(8), **tables.get("node", {})}
        self.id = str(node["id"])
        own: dict[str, Mapping[str, object]] = {
            "node": node,
            "handoff": {"socket": "keys.sock", **tables.get("handoff", {})},
            "control": {"socket": "control.sock", **tables.get("control", {})},
        }
        directory.mkdir(exist_ok=True)
        self.config = directory / "pskkey.toml"
        self.config.write_text(to_toml({**tables, **own}))
        self.build: Path | None = None
        """The source tree of the build to start; None: this one."""
        self._log = directory / "log"
        self.view = LogView(self._log)
        self.confinement: tuple[str, ...] = ()
        """The prefix of its whole command line that puts it, and only it, into a control group."""
        self._control = Control(self.control_socket)
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        """When it was started last, by `time.monotonic`."""
        self.deaths: list[float] = []
        """Each time that it ended: the time of the signal, after which a master hands over at once, or of the end."""
        self.pauses: list[tuple[float, float]] = []
        """When (since, until) it was stopped by `pause`."""
        self._end_requested_at = math.inf

    @property
    def pid(self) -> int:
        """The pid of the daemon itself: the programs before it in the command line replace themselves by exec."""
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        """The exit code; negative: ended by that signal; None: it runs."""
        return self._running().poll()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that it has printed since its first start."""
        return self._log.read_text() if self._log.exists() else ""

    def proc(self, name: str) -> bytes:
        """Return a file of proc(5) about the process, such as `status` or `cmdline`."""
        return Path(f"/proc/{self.pid}/{name}").read_bytes()

    def start(self, environ: Mapping[str, str] | None = None) -> None:
        """Start it, with `environ` added to our own environment. Does not wait."""
        launch = self.launch()
        self._end_requested_at = math.inf
        self.view.forget()
        build = {} if self.build is None else {"PYTHONPATH": str(self.build / "daemon")}
        with self._log.open("ab") as log:
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(
                [*self.confinement, *launch.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment(), **build, **launch.environ, **(environ or {})},
                pass_fds=launch.descriptors,
                start_new_session=True,
            )

    def launch(self) -> Launch:
        """Return how it is started: from a shell, with nothing from a service manager."""
        return Launch((*self.prefix, PSKKEYD, "--config", self.config))

    async def status(self) -> Status | None:
        """Return its status; None: it does not answer."""
        return await self._control.status()

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of io.pskkey.Control. Raises Refused, and OSError or IncompleteReadError without an answer."""
        return await self._control.call(method, **parameters)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._end_requested_at = time.monotonic()
        self._running().send_signal(number)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop it with SIGSTOP, and continue it at the end."""
        self.signal(signal.SIGSTOP)
        since = time.monotonic()
        try:
            yield
        finally:
            self.pauses.append((since, time.monotonic()))
            self.signal(signal.SIGCONT)

    async def ended(self, within: float = STOP_WITHIN) -> int:
        """Wait until it has ended; return its exit code. Raises TimeoutError."""
        deadline = time.monotonic() + within
        while self.exit_code is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended within {within} s")
            await asyncio.sleep(0.01)
        self._control.close()
        self.deaths.append(min(self._end_requested_at, time.monotonic()))
        return self._running().wait()

    async def stop(self) -> int:
        """End it as an operator would and return its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def destroy(self) -> None:
        """End everything that still runs, also after an error."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._control.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process


def environment() -> dict[str, str]:
    """Return our environment as daemons get it: they keep their byte code, as an installed package does."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def to_toml(tables: Tables) -> str:
    """Return tables of text, numbers, truth values and lists of them as TOML."""
    lines: list[str] = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
