"""A group with settings or programs that keep it apart: its condition, and the end of the condition."""

import socket
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.lab.daemon import Daemon
from tests.system.odd_network import (
    BUSY,
    Site,
    become_whole,
    see_condition,
    see_doctor_content,
    see_doctor_find,
    seen_conditions,
    share_of_looks,
    show,
    show_condition,
    site,
    watch,
)
from tests.system.reloading import edit, reload
from tests.system.starting import in_order, status_of
from tests.udp_port import port_taken

ENDS_WITHIN: Final = 10.0
"""Seconds after the end of a fault until the group is whole and shows no condition."""

PATIENT: Final = {"heartbeat_interval": 5.0, "dead_after": 15.0}
USUAL: Final = {"heartbeat_interval": 0.5, "dead_after": 1.5}

pytestmark = pytest.mark.root


@pytest.fixture
async def place() -> AsyncIterator[Site]:
    """Hosts and daemons of one test."""
    with site() as made:
        yield made


def losses(daemon: Daemon) -> int:
    """Return how often a daemon has lost a session, by its log."""
    return daemon.log.count("lost master") + daemon.log.count("fell silent")


@pytest.mark.parametrize("patient", ["master", "client", "reload"])
async def test_times_that_differ_are_reported_and_end_no_session(place: Site, patient: str) -> None:
    tables = [{"election": PATIENT} if patient == role else {} for role in ("master", "client")]
    daemons = [
        place.daemon(place.host(), f"node-{number}", {"node": {"priority": 200 - number}, **table})
        for number, table in enumerate(tables)
    ]
    master, client = daemons
    await in_order(daemons)
    changed = client if patient == "client" else master
    if patient == "reload":
        await become_whole(daemons, BUSY)
        edit(master, {"election": PATIENT})
        await reload(master)
    before = [(status["role"], status["term"]) for status in [await status_of(daemon) for daemon in daemons]]
    lost = sum(map(losses, daemons))
    looks = await watch(daemons, 20)
    seen = {tuple((status["role"], status["term"]) for status in statuses.values()) for statuses in looks}
    assert seen == {tuple(before)}
    assert sum(map(losses, daemons)) == lost
    for daemon, other in ((master, client), (client, master)):
        row = await see_condition(daemon, "times_differ", within=1)
        show_condition(daemon, row)
        assert row["peer"] == other.id
        for words in ("heartbeat_interval = ", "dead_after = ", "15", "1.5", "5 ", "0.5 "):
            assert words in row["text"]
        assert "[election]" in row["remedy"]
        assert {kind for kind, _, _ in seen_conditions(looks, daemon)} == {"times_differ"}
        assert share_of_looks(looks, daemon, "times_differ") == 1.0
        await see_doctor_find(daemon, row["text"])
    edit(changed, {"election": USUAL})
    await reload(changed)
    show(f"times of the {patient} differ: no condition after", await become_whole(daemons, ENDS_WITHIN))
    assert sum(map(losses, daemons)) == lost
    await see_doctor_content(*daemons)


async def test_group_is_whole_soon_after_the_mdns_port_is_free(place: Site) -> None:
    hosts = [place.host(), place.host()]
    first, second = daemons = [place.daemon(host, f"node-{number}") for number, host in enumerate(hosts)]
    await in_order([first])
    with port_taken(socket.AF_INET, socket.AF_INET6, prefix=hosts[1].command) as program:
        second.start()
        row = await see_condition(second, "mdns_blocked", within=BUSY)
        show_condition(second, row)
        assert f"(pid {program.pid})" in row["text"]
        looks = await watch(daemons, 7)
        assert [status["role"] for status in looks[-1].values()] == ["master", "master"]
        assert {kind for kind, _, _ in seen_conditions(looks, second)} == {"mdns_blocked"}
        assert share_of_looks(looks, second, "mdns_blocked") == 1.0
        assert seen_conditions(looks, first) == set()
        await see_doctor_find(second, f"(pid {program.pid}) has UDP port 5353 for itself")
    show("mDNS port taken: whole after", await become_whole(daemons, 15))
    await see_doctor_content(*daemons)
    about = [line for line in second.log.splitlines() if "mDNS does not run" in line]
    assert [line.split()[2] for line in about] == ["WARNING", "INFO"], "one line at its beginning, one at its end"


async def test_group_without_an_eligible_node_reports_it_until_one_is_eligible(place: Site) -> None:
    daemons = [place.daemon(place.host(), f"node-{number}", {"node": {"eligible": False}}) for number in range(2)]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        row = await see_condition(daemon, "nobody_eligible", within=BUSY)
        show_condition(daemon, row)
        assert "eligible = true" in row["remedy"]
    looks = await watch(daemons, 10)
    assert {status["role"] for statuses in looks for status in statuses.values()} <= {"listening", "joining"}
    for daemon in daemons:
        assert {kind for kind, _, _ in seen_conditions(looks, daemon)} == {"nobody_eligible"}
        assert share_of_looks(looks, daemon, "nobody_eligible") == 1.0
        await see_doctor_find(daemon, "there is no master")
    edit(daemons[0], {"node": {"eligible": True}})
    await reload(daemons[0])
    show("nobody eligible: whole after", await become_whole(daemons, ENDS_WITHIN))
    await see_doctor_content(*daemons)
    assert (await status_of(daemons[0]))["role"] == "master"


async def test_node_that_starts_reports_no_missing_interface(place: Site) -> None:
    """Its status is read before it has looked for its interfaces."""
    daemon = place.daemon(place.host(), "node-0")
    daemon.start()
    rows: list[object] = []
    deadline = time.monotonic() + BUSY
    while (status := await daemon.status()) is None or status["role"] != "master":
        assert time.monotonic() < deadline
        rows += status["conditions"] if status is not None else []
    assert rows == []
    assert "alone: " not in daemon.log
