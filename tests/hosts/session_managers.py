"""Session managers on hosts: the examples of the package, in C (compiled on the host) and in Python.

Each is a separate service of an ordinary user in the group `pskkey`. All of them send to each other all the time.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.hosts.group import Group, current_key, status, wait_until
from tests.hosts.host import Host

RATE: Final = 50
"""Datagrams per second that each session manager sends."""
A_WHILE: Final = 0.5
"""Seconds. In this time each session manager sends enough datagrams for a test."""
USER: Final = "device"
"""The user that runs them."""

_UNIT: Final = "session-manager"
_PACKAGED: Final = "/usr/share/doc/pskkey/examples"
_EXAMPLES: Final = "/opt/examples"
_SENDS_WITHIN: Final = 45.0
"""Seconds. Restarts of session managers cause at most one new key every 30 s."""
_LISTENER: Final = """
import socket, sys, time
with socket.socket(type=socket.SOCK_DGRAM) as group:
    group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    group.bind(("239.255.0.1", 12345))
    member = socket.inet_aton("239.255.0.1") + socket.inet_aton(sys.argv[1])
    group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    group.settimeout(0.2)
    heard, end = set(), time.monotonic() + 0.2
    while time.monotonic() < end:
        try:
            record, (address, _) = group.recvfrom(2048)
        except TimeoutError:
            break
        heard.add((address, int.from_bytes(record[3:5])))  # type, version, epoch
for address, epoch in heard:
    print(address, epoch)
"""
"""Listens to the session managers' group for 0.2 s, and prints the address and the key epoch of each sender."""


@dataclass
class Tally:
    """The numbers of datagrams that one session manager received and missed, for each sender id."""

    host: str
    received: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)


class SessionManager:
    """A session manager that runs on `host`; `program` is one of the examples."""

    def __init__(self, host: Host, program: str) -> None:
        self._host = host
        _make_examples(host)
        host.run("systemctl", "reset-failed", _UNIT, check=False)
        host.run(
            *("systemd-run", f"--unit={_UNIT}", f"--uid={USER}", "--property=SupplementaryGroups=pskkey", "--"),
            *(f"{_EXAMPLES}/{program}", "--interface", host.address, "--rate", str(RATE)),
        )
        self._invocation = host.run("systemctl", "show", "--value", "--property=InvocationID", _UNIT).stdout.strip()

    def stop(self) -> Tally:
        """Stop it by systemctl, and return its counts."""
        self._host.run("systemctl", "stop", _UNIT)
        output = self._host.journal(f"_SYSTEMD_INVOCATION_ID={self._invocation}")
        tally = Tally(self._host.name)
        for sender, received, lost in re.findall(r"^sender (\d+): received (\d+), lost (\d+)$", output, re.MULTILINE):
            tally.received[int(sender)], tally.lost[int(sender)] = int(received), int(lost)
        assert tally.received, output
        return tally

    def kill(self) -> None:
        """Kill it by SIGKILL, if it still runs."""
        self._host.run("systemctl", "kill", "--signal=KILL", _UNIT, check=False)


@contextmanager
def traffic(group: Group, without: Host | None = None) -> Iterator[None]:
    """Run a session manager on each host, the last in Python and the others in C, and assert that no datagram is lost.

    `without` is a host without a session manager, because it goes down meanwhile.
    """
    hosts = [host for host in group.hosts if host is not without]
    with ExitStack() as stack:
        running = []
        for host in hosts:
            member = SessionManager(host, "session_manager.py" if host is hosts[-1] else "session_manager")
            stack.callback(member.kill)
            running.append(member)
        _wait_until_all_send(group, hosts)
        time.sleep(A_WHILE)
        begin = time.monotonic()
        yield
        time.sleep(A_WHILE)
        elapsed = time.monotonic() - begin
        assert_nothing_lost([member.stop() for member in running], elapsed)


def assert_nothing_lost(tallies: Sequence[Tally], elapsed: float) -> None:
    """Assert that each received all datagrams of all others for `elapsed` seconds, and that all sent at the full rate.

    A datagram that a session manager may not send has no number. Nobody misses it, so the rate is checked too.
    """
    for tally in tallies:
        assert len(tally.received) >= len(tallies) - 1, tallies
        assert not any(tally.lost.values()), tallies
        assert all(received > 0.9 * RATE * elapsed for received in tally.received.values()), (elapsed, tallies)


def _wait_until_all_send(group: Group, hosts: Sequence[Host]) -> None:
    """Wait until all send with the current key, and no next key is requested. Raises Unsettled.

    A new session manager does not know its last sequence number. If its host has sent with the current key before, it
    must not send with it, and the group rekeys. It also does not receive with a key that was in use before it began. A
    test must not read the key before that rekey.
    """

    def all_send() -> bool:
        epoch = current_key(group.wait_until_settled())["epoch"]
        heard = hosts[0].run("/usr/bin/python3", "-c", _LISTENER, hosts[0].address).stdout.splitlines()
        do_send = {f"{host.address} {epoch}" for host in hosts} <= set(heard)
        return do_send and not any(status(host)["requests"] for host in group.hosts)

    wait_until(all_send, _SENDS_WITHIN, "a session manager on each host sends with a key that stays")


def _make_examples(host: Host) -> None:
    """Make the examples as their README describes."""
    if not host.exists(f"{_EXAMPLES}/session_manager"):
        host.run("rm", "-rf", _EXAMPLES)
        host.run("cp", "-r", _PACKAGED, _EXAMPLES)
        host.run("make", "-C", _EXAMPLES)
    if host.run("id", USER, check=False).returncode != 0:
        host.run("useradd", "--no-create-home", USER)
