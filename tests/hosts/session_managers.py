"""Session managers on hosts: the examples of the package, in C (compiled on the host) and in Python.

Each is a service of its own, of an ordinary user in the group `pskkey`. They send to each other all the time.
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
"""Datagrams a second that each sends."""
A_WHILE: Final = 0.5
"""Seconds in which each sends a good number of datagrams."""
USER: Final = "device"
"""Whom they run as."""

_UNIT: Final = "session-manager"
_PACKAGED: Final = "/usr/share/doc/pskkey/examples"
_EXAMPLES: Final = "/opt/examples"
_SENDS_WITHIN: Final = 45.0
"""Seconds: session managers that begin often get a new key every 30 s."""
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
"""Prints for 0.2 s who sends to the session managers' group, and with the key of which epoch."""


@dataclass
class Tally:
    """For each sender id how many datagrams a session manager received, and how many it missed."""

    host: str
    received: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)


class SessionManager:
    """One that runs on `host`: `program` is one of the examples."""

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
        """End it as systemd does, and return what it counted."""
        self._host.run("systemctl", "stop", _UNIT)
        output = self._host.journal(f"_SYSTEMD_INVOCATION_ID={self._invocation}")
        tally = Tally(self._host.name)
        for sender, received, lost in re.findall(r"^sender (\d+): received (\d+), lost (\d+)$", output, re.MULTILINE):
            tally.received[int(sender)], tally.lost[int(sender)] = int(received), int(lost)
        assert tally.received, output
        return tally

    def kill(self) -> None:
        """End it without a word, if it still runs."""
        self._host.run("systemctl", "kill", "--signal=KILL", _UNIT, check=False)


@contextmanager
def traffic(group: Group, without: Host | None = None) -> Iterator[None]:
    """Have a session manager on each host, the last in Python and the others in C, and see that none loses anything.

    `without`: a host that has none, because it goes down meanwhile.
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
    """Each has heard all the others for `elapsed` seconds, missed nothing, and none was kept from sending.

    What a session manager may not send has no number and is not missed, so their rate must have been right too.
    """
    for tally in tallies:
        assert len(tally.received) >= len(tallies) - 1, tallies
        assert not any(tally.lost.values()), tallies
        assert all(received > 0.9 * RATE * elapsed for received in tally.received.values()), (elapsed, tallies)


def _wait_until_all_send(group: Group, hosts: Sequence[Host]) -> None:
    """Wait until all send with the present key, and no further one is coming. Raises Unsettled.

    A new session manager knows no sequence numbers. Has its host sent with the present key before, then it may not use
    it, and the group takes another; and it does not receive with a key that was in use when it began. A test's first
    look at the key must not come before that.
    """

    def all_send() -> bool:
        epoch = current_key(group.wait_until_settled())["epoch"]
        heard = hosts[0].run("/usr/bin/python3", "-c", _LISTENER, hosts[0].address).stdout.splitlines()
        do_send = {f"{host.address} {epoch}" for host in hosts} <= set(heard)
        return do_send and not any(status(host)["requests"] for host in group.hosts)

    wait_until(all_send, _SENDS_WITHIN, "a session manager on each host sends with a key that stays")


def _make_examples(host: Host) -> None:
    """Make the examples as their README says."""
    if not host.exists(f"{_EXAMPLES}/session_manager"):
        host.run("rm", "-rf", _EXAMPLES)
        host.run("cp", "-r", _PACKAGED, _EXAMPLES)
        host.run("make", "-C", _EXAMPLES)
    if host.run("id", USER, check=False).returncode != 0:
        host.run("useradd", "--no-create-home", USER)
