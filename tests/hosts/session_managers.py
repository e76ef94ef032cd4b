"""Session managers on hosts: the example in C, compiled where it runs, and the installed one in Python.

Each is a service of its own, of a user in the group `pskkey`. They send to each other all the time.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from tests.hosts.group import Group, status, wait_until
from tests.hosts.host import Host

RATE: Final = 50
"""Datagrams a second that each sends."""
USER: Final = "device"
"""Whom they run as: an ordinary user in the group `pskkey`."""
A_WHILE: Final = 0.5
"""Seconds in which each sends a good number of datagrams."""

_PROGRAM: Final = "/usr/local/bin/session_manager"
_EXAMPLES: Final = "/usr/share/doc/pskkey/examples"
_SENDS_WITHIN: Final = 15.0


@dataclass
class Tally:
    """How many a session manager sent, and for each sender id what it received and lost."""

    sent: int
    received: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)


class SessionManager(Protocol):
    """One that runs."""

    host: Host

    def stop(self) -> Tally:
        """End it as systemd does, and return what it counted."""


class InC:
    """The example of the package."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._unit = "session-manager-c"
        _compile(host)
        options = ("--interface", host.address, "--rate", str(RATE))
        self._started = _start(host, self._unit, _PROGRAM, *options)
        wait_until(lambda: ": sending as sender" in self._output(), _SENDS_WITHIN, f"{_PROGRAM} sends on {host.name}")

    def stop(self) -> Tally:
        """End it as systemd does, and return what it counted."""
        self.host.run("systemctl", "stop", self._unit)
        output = self._output()
        found = re.search(r"^sent (\d+), ", output, re.MULTILINE)
        assert found is not None, output
        tally = Tally(int(found[1]))
        for sender, received, lost in re.findall(r"^sender (\d+): received (\d+), lost (\d+)$", output, re.MULTILINE):
            tally.received[int(sender)], tally.lost[int(sender)] = int(received), int(lost)
        return tally

    def _output(self) -> str:
        return _journal(self.host, self._unit, self._started)


class InPython:
    """`mcastpeer --daemon`, with datagrams too short for the number that the one in C looks for."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._unit = "session-manager-python"
        options = ("--daemon", "--json", "--interface", host.address, "--rate", str(RATE), "--size", "8")
        self._started = _start(host, self._unit, "mcastpeer", *options)
        wait_until(self._is_attached, _SENDS_WITHIN, f"mcastpeer sends on {host.name}")

    def stop(self) -> Tally:
        """End it as systemd does, and return what it counted."""
        self.host.run("systemctl", "stop", self._unit)
        output = _journal(self.host, self._unit, self._started)
        lines = [line for line in output.splitlines() if line.startswith('{"schema"')]
        assert len(lines) == 1, output
        (peer,) = json.loads(lines[0])["peers"]
        senders = {int(sender): counts for sender, counts in peer["senders"].items()}
        return Tally(
            peer["sent"],
            {sender: counts["received"] for sender, counts in senders.items()},
            {sender: counts["lost"] for sender, counts in senders.items()},
        )

    def _is_attached(self) -> bool:
        shown = status(self.host)
        return shown["sender_id"] is not None and any(session["sender"] for session in shown["sessions"])


@contextmanager
def traffic(group: Group) -> Iterator[None]:
    """Have a session manager on each host, two in C and one in Python, and see at the end that none lost anything."""
    first, second, third = group.hosts
    running: list[SessionManager] = []
    try:
        for kind, host in ((InC, first), (InC, third), (InPython, second)):
            running.append(kind(host))
        time.sleep(A_WHILE)
        yield
        time.sleep(A_WHILE)
        # The one in Python first, so that the others have all that it sent.
        tallies = [running.pop().stop() for _ in range(3)]
    finally:
        for member in running:
            member.host.run("systemctl", "kill", "--signal=KILL", "session-manager-*")
    assert_nothing_lost(tallies)


def assert_nothing_lost(tallies: Sequence[Tally]) -> None:
    """Every session manager has heard of each of the others, and lost nothing of what it sent."""
    for tally in tallies:
        others = len(tallies) - 1
        assert tally.sent > RATE * A_WHILE, tallies
        assert len([sender for sender, received in tally.received.items() if received]) >= others, tallies
        assert not any(tally.lost.values()), tallies


def _compile(host: Host) -> None:
    if not host.exists(_PROGRAM):
        sources = [f"{_EXAMPLES}/{name}" for name in ("session_manager.c", "group_keys.c")]
        host.run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", _PROGRAM, *sources, "-lwolfssl")


def _start(host: Host, name: str, *command: str) -> str:
    """Start a transient service (systemd-run(1)); return its invocation, by which its output is found."""
    if host.run("id", USER, check=False).returncode != 0:
        host.run("useradd", "--no-create-home", "--groups", "pskkey", USER)
    host.run("systemctl", "reset-failed", name, check=False)
    host.run("systemd-run", f"--unit={name}", f"--uid={USER}", "--property=SupplementaryGroups=pskkey", "--", *command)
    return host.run("systemctl", "show", "--value", "--property=InvocationID", name).stdout.strip()


def _journal(host: Host, name: str, invocation: str) -> str:
    host.run("journalctl", "--sync")
    return host.run(
        "journalctl", "--unit", name, f"_SYSTEMD_INVOCATION_ID={invocation}", "--output=cat", "--no-pager"
    ).stdout
