"""A booted Debian system with systemd as its first process. Tests run commands on it as an operator does."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from tests.hosts.cgroups import make_cgroups
from tests.lab import namespaces
from tests.lab.cgroups import remove_cgroup

BOOTS_WITHIN: Final = 60.0
ENDS_WITHIN: Final = 20.0
COMMAND_WITHIN: Final = 60.0
"""Seconds after which a host, or a command on it, hangs."""

_BOOT: Final = Path(__file__).with_name("boot")
_ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
    "SYSTEMD_PAGER=",
)


class CommandFailed(AssertionError):
    """A command failed. The message has the host, the exit code and the output."""


class Host:
    """One host, which is off at first.

    `name` is its host name, `layers` its file system (see `image`), `plug` its place on the virtual network.
    `directory` is a directory outside the host, for its console output and its mount point. `label` is the beginning
    of the names of its control groups.
    """

    def __init__(self, name: str, layers: str, plug: namespaces.Host, directory: Path, label: str) -> None:
        self.name = name
        self.address = plug.ipv4
        self._layers = layers
        self._plug = plug
        self._directory = directory / name
        self._directory.mkdir()
        self._console = directory / f"{name}.console"
        self._cgroups = make_cgroups(f"{label}-{name}")
        self._script: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Switch the host on, and do not wait."""
        with self._console.open("wb") as console:
            self._script = subprocess.Popen(
                [
                    *(*namespaces.DIES_WITH_US, str(_BOOT)),
                    *(self._layers, self._plug.namespace, self.name, str(self._directory), *map(str, self._cgroups)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_booted(self) -> None:
        """Wait until all services are started. Raises CommandFailed when a service fails."""
        deadline = time.monotonic() + BOOTS_WITHIN
        while time.monotonic() < deadline:
            self._init = self._find_init()
            if self._init and self.run("systemctl", "is-system-running", check=False).stdout.strip() in (
                "running",
                "degraded",
            ):
                break
            time.sleep(0.05)
        else:
            raise CommandFailed(f"{self.name} does not boot:\n{self.console()}")
        failed = self.run("systemctl", "--failed", "--plain", "--no-legend").stdout
        if failed:
            raise CommandFailed(f"{self.name} has booted, but not all of it: {failed}\n{self.console()}")

    def reboot(self) -> None:
        """Reboot as an operator does, and wait until the host is up again."""
        before = self._init
        self.run("systemctl", "--no-block", "reboot")
        deadline = time.monotonic() + ENDS_WITHIN
        while Path(f"/proc/{before}").exists():
            if time.monotonic() > deadline:
                raise CommandFailed(f"{self.name} does not go down:\n{self.console()}")
            time.sleep(0.02)
        self.wait_until_booted()

    def run(
        self,
        *command: str,
        given: str | None = None,
        user: str | None = None,
        check: bool = True,
        within: float = COMMAND_WITHIN,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, as root or as `user`, with `given` on its standard input.

        Raises CommandFailed when the command does not end within `within` seconds, and when it fails and `check` is
        true.
        """
        line = command if user is None else ("runuser", "--user", user, "--", *command)
        try:
            done = subprocess.run(
                [*self.command, *line],
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                check=False,
                timeout=within,
                encoding="utf-8",
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{self.name}: {command} has not ended within {within} s: {error.output}") from None
        if check and done.returncode != 0:
            raise CommandFailed(f"{self.name}: {command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @property
    def command(self) -> Sequence[str]:
        """The prefix that runs a command line on the host, as root and with a plain environment."""
        return ("nsenter", f"--target={self._init}", "--all", "--", "env", "-i", *_ENVIRONMENT)

    def read(self, path: str) -> str:
        """Return the content of a file of the host."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str, mode: str = "0644", owner: str = "root", group: str = "root") -> None:
        """Write a file of the host."""
        self.run("install", "-m", mode, "-o", owner, "-g", group, "/dev/stdin", path, given=text)

    def copy(self, source: Path, path: str) -> None:
        """Copy a file from this machine to the host."""
        (self.root / path.lstrip("/")).write_bytes(source.read_bytes())

    def journal(self, *options: str, output: str = "cat", check: bool = True) -> str:
        """Return the output of journalctl(1) with these options, with all entries until now.

        Raises CommandFailed as `run` does.
        """
        self.run("journalctl", "--sync", check=check)
        return self.run("journalctl", *options, f"--output={output}", "--no-pager", check=check).stdout

    def exists(self, path: str) -> bool:
        """Return whether the host has such a file."""
        return self.run("test", "-e", path, check=False).returncode == 0

    @property
    def root(self) -> Path:
        """The root directory of the host in our file system (proc_pid_root(5))."""
        return Path(f"/proc/{self._init}/root")

    def console(self) -> str:
        """Return the last 4000 characters of the host's console output."""
        return self._console.read_text(errors="replace")[-4000:]

    def destroy(self) -> None:
        """Switch the host off at once, and remove all traces of it."""
        if self._script is not None:
            self._script.kill()
            self._script.wait()
            self._script = None
        for cgroup in self._cgroups:
            remove_cgroup(cgroup)
        self._cgroups = []

    def _find_init(self) -> int:
        """Return the pid of the host's first process in our pid namespace, or 0 before that process exists."""
        if self._script is None:
            raise RuntimeError(f"{self.name} was never switched on")
        # The pid namespace of the host is below that of the script.
        depth = len(_pids("self")) + 2
        descendants = [self._script.pid]
        for pid in descendants:
            pids = _pids(pid)
            if len(pids) == depth and pids[-1] == "1":
                return pid
            descendants += _children(pid)
        if self._script.poll() is not None:
            raise CommandFailed(f"{self.name} is off:\n{self.console()}")
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _pids(pid: int | Literal["self"]) -> list[str]:
    """Return the pids of a process in our pid namespace and in the namespaces below it (proc_pid_status(5))."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
