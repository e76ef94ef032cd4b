"""One node of the demo: a directory, a configuration in it, and a daemon's process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pskkey.errors import PskkeyError, Unreachable
from pskkey.keyserver.api import DEFAULT_PORT
from pskkey.tools.ctl.control_client import call
from pskkey.tools.ctl.status_reading import Status

STATUS_TIMEOUT: Final = 2.0
STOP_TIMEOUT: Final = 5.0
LAST_LINES: Final = 8
PORT_ATTEMPTS: Final = 10
_ENDS_DEMO: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_CONFIGURATION: Final = """\
[group]
name = "{group}"

[node]
id = "{id}"
name = "{name}"

[network]
interfaces = ["127.0.0.1"]
addresses = ["{address}"]
port = {port}

[psk]
file = "../pskkey.psk"

[handoff]
socket = "keys.sock"
groups = []

[control]
socket = "control.sock"
"""

# Variables that a service manager sets for the process that it starts, and that our daemons must not inherit.
_NOT_INHERITED: Final = frozenset(
    {"CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM"}
)


class DemoFailed(PskkeyError):
    """A statement of the demo is not true; the message describes the difference."""


class DemoNode:
    """A daemon on one loopback address. Use it as a context: no process is left behind."""

    def __init__(self, directory: Path, group: str, node_id: str, name: str, address: str, port: int) -> None:
        self.name = name
        self.address = address
        self._log = directory / "pskkeyd.log"
        self.keys_socket = directory / "keys.sock"
        self.control_socket = directory / "control.sock"
        self._configuration = directory / "pskkey.toml"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        self._configuration.write_text(
            _CONFIGURATION.format(group=group, id=node_id, name=name, address=address, port=port)
        )

    def start(self) -> None:
        """Start the daemon; it is up when `status` answers."""
        environ = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        with uninterrupted(), self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program("pskkeyd"), "--config", self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
            )

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def status(self) -> Status | None:
        """Ask the daemon for its status; None while it is not up yet. Raises DemoFailed when it has ended."""
        if not self.is_running:
            code = None if self._process is None else self._process.returncode
            raise DemoFailed(f"the daemon of {self.name} ended by itself with exit code {code}")
        try:
            return Status.parse_untrusted(call(self.control_socket, "GetStatus", {}, STATUS_TIMEOUT))
        except (Unreachable, TimeoutError):
            return None

    def kill(self) -> None:
        """End the daemon as a crash does: it cannot notify any peer."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def read_log_end(self) -> Sequence[str]:
        """Return the end of the daemon's log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return text.splitlines()[-LAST_LINES:]

    def __enter__(self) -> "DemoNode":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is None:
            return
        with uninterrupted():
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay a signal that ends the demo until the end of the block: the process of a half-started node is not known."""
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda which, _frame: came.append(which)) for number in _ENDS_DEMO}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def program(name: str) -> Path:
    """Return the path of one of our programs, which are installed beside the Python that runs this."""
    return Path(sys.executable).with_name(name)


def free_port(addresses: Sequence[str]) -> int:
    """Return a TCP port that is free at all `addresses`: the default port, if it is free."""
    trouble = ""
    for attempt in range(PORT_ATTEMPTS):
        port = 0 if attempt else DEFAULT_PORT
        try:
            for address in addresses:
                with socket.create_server((address, port)) as probe:
                    port = probe.getsockname()[1]
        except OSError as error:
            trouble = str(error.strerror)
        else:
            return port
    raise DemoFailed(f"no TCP port is free on all of {', '.join(addresses)}: {trouble}")
