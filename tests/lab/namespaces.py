"""Hosts of our own on one machine: network namespaces with an interface each, on one switch.

The switch, a bridge, lives in a namespace too, so the machine's own network never sees any of it. All
names contain the process that made them: the next process removes the remains of a dead one.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INTERFACE: Final = "eth0"
"""The interface of every host."""

DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")
"""The prefix of a command line: when a run is killed, the kernel kills the command too."""

_NAMED: Final = Path("/run/netns")
_OWNED: Final = re.compile(r"psk-lab-(\d+)-(\d+)-.+")


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one interface, its addresses there, and the name of its port at the switch."""

    namespace: str
    port: str
    ipv4: str
    ipv6: str

    @property
    def command(self) -> tuple[str, ...]:
        """The prefix of a command line that shall run on this host, under the same pid, and die with us."""
        return ("nsenter", f"--net={_NAMED / self.namespace}", "--", *DIES_WITH_US)

    def run(self, *command: str) -> str:
        """Run a short command on this host and return its output. Raises CalledProcessError."""
        return _run(*self.command, *command)


class Switch:
    """A bridge that carries multicast to all its ports. Make one with `switch()`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._namespace = f"{prefix}switch"
        self._made: list[str] = []
        self.hosts: list[Host] = []

    def build(self) -> None:
        """Make the bridge."""
        self._add_namespace(self._namespace)
        _run("ip", "-n", self._namespace, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _run("ip", "-n", self._namespace, "link", "set", "br0", "up")

    def add_host(self) -> Host:
        """Make a host and connect it to the switch: 10.83.x.y/16 and fd83::n/64, with a route for multicast."""
        number = len(self.hosts) + 1
        host = Host(f"{self._prefix}n{number}", f"n{number}", f"10.83.{number >> 8}.{number & 255}", f"fd83::{number}")
        self._add_namespace(host.namespace)
        # Without duplicate address detection: an address would not be usable for a second or two.
        _batch(
            host.namespace,
            "link set lo up",
            f"link add {INTERFACE} type veth peer name {host.port} netns {self._namespace}",
            f"link set {INTERFACE} addrgenmode none",
            f"address add {host.ipv4}/16 dev {INTERFACE}",
            f"address add {host.ipv6}/64 dev {INTERFACE} nodad",
            f"address add fe80::{number}/64 dev {INTERFACE} nodad",
            f"link set {INTERFACE} up",
            f"route add 224.0.0.0/4 dev {INTERFACE}",
        )
        _batch(self._namespace, f"link set {host.port} addrgenmode none", f"link set {host.port} master br0 up")
        self.hosts.append(host)
        return host

    def run(self, *command: str) -> str:
        """Run a short command at the switch and return its output. Raises CalledProcessError."""
        return _run("ip", "netns", "exec", self._namespace, *command)

    def remove(self) -> None:
        """Kill all processes on the hosts, and remove the hosts and the bridge."""
        while self._made:
            _remove_namespace(self._made.pop())
        self.hosts.clear()

    def _add_namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._made.append(name)


@contextmanager
def switch(hosts: int = 0) -> Iterator[Switch]:
    """Remove the remains of dead processes, make a switch with hosts, and remove it at the end. Needs root."""
    remove_stale()
    made = Switch(f"{own_label()}-{os.urandom(2).hex()}-")
    try:
        made.build()
        for _ in range(hosts):
            made.add_host()
        yield made
    finally:
        made.remove()


def own_label() -> str:
    """Return a label for the things of this process: its pid and its start time."""
    return f"psk-lab-{os.getpid()}-{_started(os.getpid())}"


def is_stale(name: str) -> bool:
    """Return whether `name` begins with the label of a process that is dead."""
    owner = _OWNED.fullmatch(name)
    return owner is not None and _started(int(owner[1])) != int(owner[2])


def remove_stale() -> None:
    """Remove the remains of our dead processes: namespaces, with all processes in them, and directories."""
    names = [path.name for path in _NAMED.iterdir()] if _NAMED.is_dir() else []
    for name in filter(is_stale, names):
        _remove_namespace(name)
    for left in [path for path in Path(tempfile.gettempdir()).glob("psk-lab-*") if is_stale(path.name)]:
        shutil.rmtree(left, ignore_errors=True)  # another run may be removing it too


def _remove_namespace(name: str) -> None:
    try:
        for pid in _run("ip", "netns", "pids", name).split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        _run("ip", "netns", "delete", name)
    except subprocess.CalledProcessError:
        if (_NAMED / name).exists():  # otherwise another run has removed it
            raise


def _started(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot (proc(5), field 22); None: it does not run."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _batch(namespace: str, *lines: str) -> None:
    _run("ip", "-n", namespace, "-batch", "-", given="\n".join(lines))


def _run(*command: str, given: str | None = None) -> str:
    # A session of its own: Ctrl-C must not interrupt the cleaning up.
    done = _checked(command, given)
    return done.stdout


def _checked(command: Sequence[str], given: str | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=given, check=True, capture_output=True, text=True, start_new_session=True, timeout=30
        )
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
