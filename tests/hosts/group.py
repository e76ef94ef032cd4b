"""A group of hosts on which the package has installed pskkeyd."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.hosts import package
from tests.hosts.host import Host
from tests.lab.daemon import Status
from tests.lab.group import Statuses, why_apart

CONFIGURATION: Final = "/etc/pskkey.toml"
PSK_FILE: Final = "/etc/pskkey.psk"
PLAIN_CREDENTIAL: Final = "/etc/credstore/pskkey.psk"
ENCRYPTED_CREDENTIAL: Final = "/etc/credstore.encrypted/pskkey.psk"
NO_MASTER_YET: Final = 10
"""The exit code of `pskkeyctl status` when the daemon has no master yet."""
SETTLES_WITHIN: Final = 20.0
"""Seconds until newly started daemons have one common master and its key."""
DAEMON: Final = ("--unit=pskkeyd", "--boot")
"""For `Host.journal`: the entries of the daemon, and of systemd about it, since the host booted."""


class Unsettled(AssertionError):
    """The daemons did not reach the expected state in time. The message has the state that they show."""


class Group:
    """Hosts with one pre-shared key, and with the package `deb` on each."""

    def __init__(self, hosts: Sequence[Host], deb: Path) -> None:
        self.hosts = tuple(hosts)
        self._deb = deb
        self._configuration: str | None = None
        self.psk = ""
        """The content of the PSK file on all of them."""

    @property
    def master(self) -> Host:
        """The host that all hosts show as their master."""
        by_name = {host.name: host for host in self.hosts}
        names = {status["master"]["name"] for status in self.statuses()}
        assert len(names) == 1
        return by_name[names.pop()]

    @property
    def clients(self) -> list[Host]:
        """The other hosts."""
        master = self.master
        return [host for host in self.hosts if host is not master]

    def establish(self) -> None:
        """Install, configure and start every host, and wait until they are one group. Any earlier state is replaced."""
        if self._configuration is None:
            self.on_all(self._install)
            self._configuration = self.hosts[0].read(CONFIGURATION)
            self.hosts[0].run("pskkeyctl", "psk", "generate", "--output", "/srv/psk")
            self.psk = self.hosts[0].read("/srv/psk")
        self.on_all(self._establish)
        self.wait_until_settled()

    def on_all(self, work: Callable[[Host], object]) -> None:
        """Call `work` for all hosts at the same time."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(work, self.hosts))

    def statuses(self) -> list[Status]:
        """Return the status of each host, from `pskkeyctl status`. Raises Unsettled when a daemon does not answer."""
        return [status(host) for host in self.hosts]

    def wait_until_settled(self, epoch: int | None = None) -> Status:
        """Wait until all hosts are one group with one key, of `epoch` if given; return the master's status."""
        deadline = time.monotonic() + SETTLES_WITHIN
        while True:
            shown = {host.name: try_status(host) for host in self.hosts}
            why = why_unsettled(shown)
            if why is None:
                (master,) = (each for each in shown.values() if each is not None and each["role"] == "master")
                if epoch in (None, current_key(master)["epoch"]):
                    return master
                why = f"the key's epoch is {current_key(master)['epoch']} and not {epoch}"
            if time.monotonic() > deadline:
                raise Unsettled(f"not one group within {SETTLES_WITHIN} s: {why}")
            time.sleep(0.1)

    def _install(self, host: Host) -> None:
        if package.installed_version(host) != package.version_of(self._deb):
            package.install(host, self._deb)

    def _establish(self, host: Host) -> None:
        assert self._configuration is not None
        self._install(host)
        wanted = {CONFIGURATION: self._configuration, PSK_FILE: self.psk}
        changed = [path for path, text in wanted.items() if not host.exists(path) or host.read(path) != text]
        unwanted = [path for path in (PLAIN_CREDENTIAL, ENCRYPTED_CREDENTIAL) if host.exists(path)]
        if changed or unwanted:
            host.run("rm", "-f", PLAIN_CREDENTIAL, ENCRYPTED_CREDENTIAL)
            host.write(CONFIGURATION, self._configuration)
            write_psk(host, self.psk)
            host.run("systemctl", "restart", "pskkeyd")
        host.run("systemctl", "start", "pskkeyd")


def write_psk(host: Host, psk: str) -> None:
    """Write the PSK file. Only the daemon's user may read it."""
    host.write(PSK_FILE, psk, mode="0600", owner="pskkey", group="pskkey")


def status(host: Host, *options: str) -> Status:
    """Return the output of `pskkeyctl OPTIONS status --json`. Raises Unsettled when the daemon does not answer."""
    shown = try_status(host, *options)
    if shown is None:
        raise Unsettled(f"the daemon on {host.name} does not answer")
    return shown


def try_status(host: Host, *options: str) -> Status | None:
    """Return the output of `pskkeyctl OPTIONS status --json`, or None when the daemon does not answer."""
    done = host.run("pskkeyctl", *options, "status", "--json", check=False)
    if done.returncode not in (0, NO_MASTER_YET):
        return None
    shown: Status = json.loads(done.stdout)
    return shown


def current_key(shown: Status) -> dict[str, Any]:
    """Return the key that a node sends with."""
    keys = [key for key in shown["keys"] if key["state"] == "current"]
    assert len(keys) == 1, shown["keys"]
    key: dict[str, Any] = keys[0]
    return key


def unit(host: Host, name: str) -> str:
    """Return a property of pskkeyd.service (systemd.service(5), org.freedesktop.systemd1(5))."""
    return host.run("systemctl", "show", "--value", "--property", name, "pskkeyd").stdout.strip()


def wait_for_another_process(host: Host, pid: str, within: float) -> None:
    """Wait until the daemon is active with another process id than `pid`."""
    wait_until(
        lambda: unit(host, "MainPID") not in ("0", pid) and unit(host, "ActiveState") == "active",
        within,
        f"another daemon than {pid} is active on {host.name}",
    )


def wait_until(is_true: Callable[[], bool], within: float, what: str) -> None:
    """Wait until `is_true()`. Raises Unsettled with the text `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not is_true():
        if time.monotonic() > deadline:
            raise Unsettled(f"not within {within} s: {what}")
        time.sleep(0.05)


def why_unsettled(statuses: Statuses) -> str | None:
    """Return why these nodes are not one settled group, or None when they are.

    In a settled group `why_apart` finds nothing, each node lists exactly all members, and no node has a next key.
    """
    if (apart := why_apart(statuses)) is not None:
        return apart
    known = {name: status for name, status in statuses.items() if status is not None}
    everybody = {status["node"]["id"] for status in known.values()}
    for name, status in known.items():
        if {member["id"] for member in status["members"]} != everybody:
            return f"{name} lists {[member['name'] for member in status['members']]}"
        if coming := [key["epoch"] for key in status["keys"] if key["state"] == "next"]:
            return f"{name} has yet to send with the key of epoch {coming}"
    return None
