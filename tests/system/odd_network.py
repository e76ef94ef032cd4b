"""Daemons on hosts of their own, in a network that something is wrong with, and looks at their status. Needs root."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pskkey.config.psk import generate_psk_line
from tests.lab.daemon import PSKKEYD, Daemon, Status, Tables, environment
from tests.lab.group import Group, Statuses, key_of, why_apart
from tests.lab.namespaces import INTERFACE, Host, Switch, own_label, switch
from tests.system.doctoring import doctor, faults, texts

LOOK_EVERY: Final = 0.2
"""Seconds between two looks at all daemons."""

BUSY: Final = 20.0
"""Seconds that the preparations of a test may take on a busy machine. No rule has this bound."""

type Row = dict[str, Any]
"""A condition in the status."""


class Site:
    """Makes hosts and daemons of one pre-shared key."""

    def __init__(self, hosts: Switch, directory: Path) -> None:
        self.switch = hosts
        self.daemons: list[Daemon] = []
        self._directory = directory
        self._psk = directory / "psk"
        self._psk.touch(0o600)
        self._psk.write_text(generate_psk_line("group") + "\n")

    def host(self, *addresses: str) -> Host:
        """Add a host. With `addresses`, the interface has these and no others."""
        host = self.switch.add_host()
        if addresses:
            run_ip(host, f"address flush dev {INTERFACE}")
            for address in addresses:
                run_ip(host, f"address add {address} dev {INTERFACE}{' nodad' if ':' in address else ''}")
        return host

    def plug_again(self, host: Host) -> None:
        """Make the interface of a host anew, with its IPv4 address only. So it comes after all others of the host."""
        run_ip(host, f"link delete {INTERFACE}")
        peer = ("peer", "name", INTERFACE, "netns", host.namespace)
        self.switch.run("ip", "link", "add", host.port, "type", "veth", *peer)
        self.switch.run("ip", "link", "set", host.port, "addrgenmode", "none")
        self.switch.run("ip", "link", "set", host.port, "master", "br0", "up")
        run_ip(
            host,
            f"link set {INTERFACE} addrgenmode none",
            f"address add {host.ipv4}/16 dev {INTERFACE}",
            f"link set {INTERFACE} up",
            f"route add 224.0.0.0/4 dev {INTERFACE}",
        )

    def daemon(self, host: Host, name: str, tables: Tables | None = None) -> Daemon:
        """Return a daemon on a host. It is not started."""
        made = Daemon(self._directory / name, {"psk": {"file": str(self._psk)}, **(tables or {})}, host.command)
        self.daemons.append(made)
        return made


@contextmanager
def site() -> Iterator[Site]:
    """Set up a site, and remove it at the end, with all processes on its hosts."""
    with switch() as hosts, tempfile.TemporaryDirectory(prefix=f"{own_label()}-") as directory:
        # Python writes its byte code now, so that this takes no time of a test.
        subprocess.run([PSKKEYD, "--version"], check=True, capture_output=True, env=environment())
        made = Site(hosts, Path(directory))
        try:
            yield made
        finally:
            for daemon in made.daemons:
                daemon.destroy()
            print(Group(daemon for daemon in made.daemons if daemon.log).transcript())  # shown with a failure


def run_ip(host: Host, *lines: str) -> None:
    """Run commands of `ip` on a host."""
    for line in lines:
        host.run("ip", *line.split())


async def look(daemons: Sequence[Daemon]) -> dict[str, Status | None]:
    """Return the status of each daemon by its name."""
    found = await asyncio.gather(*(daemon.status() for daemon in daemons))
    return dict(zip((daemon.name for daemon in daemons), found, strict=True))


async def watch(daemons: Sequence[Daemon], seconds: float) -> list[dict[str, Status]]:
    """Look at daemons for so many seconds. Return the looks in which all have answered."""
    looks: list[dict[str, Status]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        statuses = await look(daemons)
        answered = {name: status for name, status in statuses.items() if status is not None}
        if len(answered) == len(statuses):
            looks.append(answered)
        await asyncio.sleep(LOOK_EVERY)
    assert looks
    return looks


async def see_condition(daemon: Daemon, *kinds: str, within: float) -> Row:
    """Wait until the status of a daemon has a condition of one of these kinds, and return it."""
    deadline = time.monotonic() + within
    while True:
        status = await daemon.status()
        rows: list[Row] = status["conditions"] if status is not None else []
        if found := [row for row in rows if row["kind"] in kinds]:
            return found[0]
        assert time.monotonic() < deadline, f"{daemon.name} has no {' or '.join(kinds)} after {within} s: {rows}"
        await asyncio.sleep(LOOK_EVERY)


def conditions_left(statuses: Statuses) -> str | None:
    """Return the conditions that these daemons have; None: they have none."""
    left = {name: status["conditions"] for name, status in statuses.items() if status and status["conditions"]}
    return f"conditions: {left}" if left else None


async def become_whole(daemons: Sequence[Daemon], within: float) -> float:
    """Wait until the daemons are one group without conditions. Return the seconds that it took."""
    since = time.monotonic()
    seen, _ = await Group(daemons).together(within, conditions_left)
    return seen - since


async def stay_the_same(daemons: Sequence[Daemon], seconds: float) -> None:
    """Check for so many seconds that the daemons are one group with the same term and key, and without conditions."""
    looks = await watch(daemons, seconds)
    for statuses in looks:
        assert why_apart(statuses) is None
        assert conditions_left(statuses) is None
    assert len({terms_and_keys(statuses) for statuses in looks}) == 1


def terms_and_keys(statuses: dict[str, Status]) -> tuple[tuple[int, str | None], ...]:
    """Return the term and the key of each daemon."""
    return tuple((status["term"], key_of(status)) for status in statuses.values())


def seen_conditions(looks: Sequence[dict[str, Status]], daemon: Daemon) -> set[tuple[str, str, str | None]]:
    """Return the kind, the text and the peer of all conditions that a daemon had in these looks."""
    rows = [row for statuses in looks for row in statuses[daemon.name]["conditions"]]
    return {(row["kind"], row["text"], row["peer"]) for row in rows}


def share_of_looks(looks: Sequence[dict[str, Status]], daemon: Daemon, *kinds: str) -> float:
    """Return how steadily a daemon showed a condition of these kinds: 1.0 is in all looks from the first sight on."""
    shown = [any(row["kind"] in kinds for row in statuses[daemon.name]["conditions"]) for statuses in looks]
    since = shown[shown.index(True) :]
    return sum(since) / len(since)


def show(about: str, value: object) -> None:
    """Print a figure or a sentence of a test: `pytest -s` shows it."""
    print(f"~~ {about}: {value}")


def show_condition(daemon: Daemon, row: Row) -> None:
    """Print a condition."""
    show(f"{daemon.name} {row['kind']} ({row['address']})", f"{row['text']}; {row['remedy']}")


async def see_doctor_find(daemon: Daemon, words: str) -> None:
    """Check that `pskkeyctl doctor` finds a fault with these words on the host of a daemon, and print all faults."""
    code, found = await doctor(daemon)
    for one in found:
        if not one["ok"]:
            show(f"doctor of {daemon.name}", f"{one['text']}; {one['remedy']}")
    assert code == 1
    assert any(words in text for text in faults(found)), f"no fault has {words!r}"


async def see_doctor_content(*daemons: Daemon) -> None:
    """Check that `pskkeyctl doctor` finds no fault on the hosts of these daemons, and print what it has of nodes."""
    for daemon in daemons:
        code, found = await doctor(daemon)
        for text in texts(found, "node", ok=True):
            show(f"doctor of {daemon.name}", text)
        assert (code, faults(found)) == (0, []), f"{daemon.name}: {faults(found)}"
