"""The laboratory's bookkeeping: losses, mute ticks, and times with two masters."""

import math
import time
from array import array
from collections.abc import Mapping

import pytest

from tests.lab.losses import Mark, Notes, losses
from tests.lab.roles import as_master, two_masters_ms
from tests.lab.separations import Separations
from tests.lab.traffic_peer import TICK_NS


def _notes(number: int, ticks: str, heard: Mapping[int, str] | None = None, host_drops: int = 0) -> Notes:
    """Return notes. `ticks` as in `Notes`, one each 20 ms from 1 s on; `heard`: by sender, an x for each datagram."""
    return Notes(
        number=number,
        ticks=ticks.encode("ascii"),
        times=array("Q", [10**9 + tick * TICK_NS for tick in range(len(ticks))]),
        heard={sender: bytes(mark == "x" for mark in marks) for sender, marks in (heard or {}).items()},
        late=0,
        repeated=0,
        slowest_ms=0.0,
        host_drops=host_drops,
        muted_because=[(10**9, "no key")],
    )


def test_datagrams_that_arrive_are_not_lost() -> None:
    found = losses({"a": _notes(1, "ssss", {2: "xxxx"}), "b": _notes(2, "ssss", {1: "xxxx"})}, 1.0, Separations())
    assert (found.sent, found.received, found.lost, found.muted) == (8, 8, 0, 0)
    assert not found.lost_windows
    assert not found.muted_windows


def test_a_loss_is_reported_with_its_nodes_and_times() -> None:
    notes = {"a": _notes(1, "s" * 100), "b": _notes(2, "", {1: "xxx..x" + "x" * 92 + "."})}
    found = losses(notes, 1.0, Separations(), marks=[Mark(1.01, "kill a")])
    assert (found.sent, found.received, found.lost) == (100, 96, 4)
    assert found.lost_windows == [
        {"from": "a", "to": "b", "after": "kill a", "first_at_ms": 50.0, "last_at_ms": 70.0, "lost": 2},
        {"from": "a", "to": "b", "after": "kill a", "first_at_ms": 1950.0, "last_at_ms": 1970.0, "lost": 2},
    ]


def test_a_node_that_never_heard_a_sender_has_lost_all_its_datagrams() -> None:
    found = losses({"a": _notes(1, "sss"), "b": _notes(2, "")}, 1.0, Separations())
    assert (found.sent, found.lost) == (3, 3)


def test_losses_count_from_the_time_when_all_hear_all() -> None:
    found = losses({"a": _notes(1, "ssss"), "b": _notes(2, "", {1: "..xx"})}, 1.04, Separations())
    assert (found.sent, found.lost) == (2, 0)


def test_a_tick_without_a_datagram_is_muted_or_refused_and_not_lost() -> None:
    found = losses({"a": _notes(1, "mmsmmrs"), "b": _notes(2, "", {1: "..x...x"})}, 1.0, Separations())
    assert (found.sent, found.lost, found.muted, found.refused) == (2, 0, 2, 1)
    (window,) = found.muted_windows
    assert (window["node"], window["muted"], window["because"]) == ("a", 2, "no key")


def test_separated_nodes_lose_nothing_of_each_other_until_they_are_one_group_again() -> None:
    separations = Separations()
    separation = separations.begin(["a"], ["b", "c"])
    separation.since, separation.healed_at, separation.mended_at = 1.01, 1.03, 1.05
    notes = {"a": _notes(1, "ssss"), "b": _notes(2, "ssss", {1: "x..x"}), "c": _notes(3, "", {1: "....", 2: "xx.x"})}
    found = losses(notes, 1.0, separations)
    lost = {(window["from"], window["to"]): window["lost"] for window in found.lost_windows}
    # Only c hears b; nothing separates these two, so the datagram that c misses is lost.
    assert lost == {("a", "c"): 2, ("b", "a"): 2, ("b", "c"): 1}
    assert found.sent == 2 + 2 + 2 + 4


def test_random_drops_of_the_network_are_counted_but_in_no_window() -> None:
    notes = {"a": _notes(1, "ssss"), "b": _notes(2, "", {1: ".x.x"})}
    found = losses(notes, 1.0, Separations(), lossy=[(0.99, 1.01)])
    assert (found.lost, [window["lost"] for window in found.lost_windows]) == (2, [1])


def test_drops_of_this_machine_are_reported() -> None:
    notes = {"a": _notes(1, "s", host_drops=2), "b": _notes(2, "", {1: "."}, host_drops=1)}
    found = losses(notes, 1.0, Separations())
    assert (found.lost, found.host_drops) == (1, 3)


@pytest.mark.parametrize(
    ("deaths", "pauses", "spans"),
    [
        ([], [], [(2.0, 5.0), (8.0, math.inf)]),
        ([9.0], [], [(2.0, 5.0), (8.0, 9.0)]),
        ([], [(3.0, 4.0)], [(2.0, 3.0), (4.0, 5.0), (8.0, math.inf)]),
    ],
)
def test_the_log_shows_when_a_daemon_was_master(
    deaths: list[float], pauses: list[tuple[float, float]], spans: list[tuple[float, float]]
) -> None:
    log = (
        "1970-01-01 00:00:02,000 INFO    listening -> master, term 1\n"
        "1970-01-01 00:00:03,000 INFO    n2 joined from 10.83.0.2\n"
        "1970-01-01 00:00:05,000 WARNING master -> joining, term 2\n"
        "1970-01-01 00:00:08,000 INFO    joining -> master, term 3\n"
    )
    local = -time.mktime((1970, 1, 1, 0, 0, 0, 0, 0, -1))
    assert as_master(log, deaths, pauses, local) == spans


def test_two_masters_count_only_while_the_network_connects_them() -> None:
    masters = {"a": [(0.0, 10.0)], "b": [(4.0, 6.0)], "c": [(5.0, 7.0)]}
    separations = Separations()
    assert two_masters_ms(masters, separations, 0.0, 100.0) == 3000
    assert two_masters_ms(masters, separations, 3.0, 5.0) == 1000
    separation = separations.begin(["a"], ["b", "c"])
    separation.since, separation.healed_at = 0.0, 6.5
    assert two_masters_ms(masters, separations, 5.5, 100.0) == 1000
