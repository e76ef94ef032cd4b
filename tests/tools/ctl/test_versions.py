"""pskkeyctl shows the versions in a group, its protocol level, and the members that hold it back."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from pskkey.tools.ctl.status_changes import changes
from pskkey.tools.ctl.status_reading import Status
from tests.tools.ctl.pskkeyctl_process import MASTER, daemon, run

MIXED: Final[dict[str, Any]] = {
    **MASTER,
    "node": {**MASTER["node"], "speaks": [1, 2]},
    "members": [
        {**member, "version": version, "speaks": speaks}
        for member, version, speaks in zip(MASTER["members"], ("0.2.0", "0.1.0"), ([1, 2], [1, 1]), strict=True)
    ],
    "level": 1,
    "held_back_by": [MASTER["members"][1]["name"]],
}


async def test_status_names_the_members_that_hold_the_group_back(tmp_path: Path) -> None:
    many = {**MIXED, "held_back_by": [f"n{number}" for number in range(8)]}
    for number, (status, line) in enumerate(
        (
            (MIXED, "level 1, held back by Pümpe?[31m: see pskkeyctl members"),
            (many, "level 1, held back by n0, n1, n2, n3, n4 and 3 more: see pskkeyctl members"),
            ({**MIXED, "level": 2, "held_back_by": []}, "level 2"),
        )
    ):
        async with daemon(tmp_path / f"c{number}", status):
            shown = (await run("--socket", tmp_path / f"c{number}")).output
        assert re.findall(r"^  Protocol +(.*)$", shown, re.MULTILINE) == [line]


async def test_members_have_their_versions(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MIXED):
        shown = (await run("members", "--socket", tmp_path / "c")).output
    columns = [re.split(r"  +", line)[-1] for line in shown.splitlines()]
    assert columns == ["VERSION", "0.2.0", "0.1.0"]


@pytest.mark.parametrize(("level", "held_back"), [(1, ["a", "b"]), (2, []), (None, [])])
async def test_metrics_have_the_levels(tmp_path: Path, level: int | None, held_back: list[str]) -> None:
    async with daemon(tmp_path / "c", {**MIXED, "level": level, "held_back_by": held_back}):
        shown = (await run("metrics", "--socket", tmp_path / "c")).output
    values = dict(
        re.findall(r"^pskkey_(protocol_level|protocol_level_highest|members_holding_back) (\S+)$", shown, re.MULTILINE)
    )
    assert values.pop("protocol_level_highest") == "2"
    assert values.pop("members_holding_back") == str(len(held_back))
    assert values == ({} if level is None else {"protocol_level": str(level)})


def test_monitor_reports_a_change_of_the_level() -> None:
    before, after = (Status.parse_untrusted({**MIXED, "level": level}) for level in (1, 2))
    assert [(one.event, one.text, one.values) for one in changes(before, after)] == [
        ("level", "protocol level 1 -> 2", {"before": 1, "after": 2})
    ]
    assert list(changes(after, after)) == []
