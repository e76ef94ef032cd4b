"""The commands of an administrator, on a node of its own."""

from typing import Any

import pytest

from pskkey.adapters.local.control_socket import CommandRefused
from pskkey.core.events import Event, SwitchoverRequested
from pskkey.daemon.commands import MAX_LISTED, Commands
from tests.core.harness import NodeHarness, join

ALIKE = tuple(f"0000000{digit}{digit}" for digit in "0123456")


def commands(*members: str) -> tuple[Commands, list[Event]]:
    """Return the commands of a master with these members, and the events that they emit."""
    harness = NodeHarness().start().become_master()
    for number, member in enumerate(members, 1):
        harness.accept(number, join(member))
    assert harness.members == set(members)
    emitted: list[Event] = []
    return Commands(harness.node, emitted.append), emitted


def refusal(of: Commands, node: str) -> tuple[str, dict[str, Any]]:
    """Return the error of a refused switchover."""
    with pytest.raises(CommandRefused) as caught:
        of.switch_over({"node": node})
    return caught.value.error, caught.value.parameters


@pytest.mark.parametrize("wanted", ["aaaaaaaa", "aa", "na"])
def test_switchover_takes_an_id_its_beginning_or_a_name(wanted: str) -> None:
    switch, emitted = commands("aaaaaaaa", "bbbbbbbb")
    switch.switch_over({"node": wanted})
    assert emitted == [SwitchoverRequested("aaaaaaaa")]


@pytest.mark.parametrize("wanted", ["cc", "nc", "", "55555555"])
def test_switchover_to_no_other_member_is_refused(wanted: str) -> None:
    switch, emitted = commands("aaaaaaaa", "bbbbbbbb")
    assert refusal(switch, wanted) == ("NoSuchNode", {"node": wanted})
    assert emitted == []


@pytest.mark.parametrize("wanted", ["00000000000000", "n0"])
def test_ambiguous_beginning_or_name_is_refused_with_the_members_that_it_fits(wanted: str) -> None:
    switch, emitted = commands("0000000000000001", "0000000000000002", "bbbbbbbb")
    assert refusal(switch, wanted) == (
        "NotPossible",
        {
            "reason": f"{wanted} is ambiguous: it fits n0 (0000000000000001), n0 (0000000000000002); "
            "give more digits of the id"
        },
    )
    assert emitted == []


def test_no_more_than_a_few_of_many_members_are_listed() -> None:
    switch, _ = commands(*ALIKE)
    error, parameters = refusal(switch, "0000")
    assert error == "NotPossible"
    assert parameters["reason"].count("(") == MAX_LISTED
    assert parameters["reason"].endswith(f" and {len(ALIKE) - MAX_LISTED} more; give more digits of the id")


def test_whole_id_counts_before_the_beginning_of_another_one() -> None:
    switch, emitted = commands("01234567", "0123456789")
    switch.switch_over({"node": "01234567"})
    assert emitted == [SwitchoverRequested("01234567")]


def test_client_names_its_master_by_digits_that_no_other_member_has() -> None:
    harness = NodeHarness().start()
    harness.become_client("1111111122", master="1111111111")
    switch = Commands(harness.node, lambda _: None)
    error, parameters = refusal(switch, "n2")
    assert error == "NotPossible"
    assert "that is n1 (111111111) at 10.0.0.17: run `pskkeyctl switchover n2` there" in parameters["reason"]
