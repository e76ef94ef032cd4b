"""Fields of the status that came later, as pskkeyctl shows them: ages of counters, warnings, PSK identities."""

from pathlib import Path

import pytest

from tests.tools.ctl.pskkeyctl_process import MASTER, daemon, run


async def test_troubles_are_shown_while_they_last_and_a_day_longer(tmp_path: Path) -> None:
    status = {
        **MASTER,
        "counters": {"handshakes_failed": 2, "bad_packets": 5, "adverts_rejected": 1, "elections": 1},
        "counter_ages_s": {"handshakes_failed": 7300.5, "bad_packets": 86401, "adverts_rejected": 86399.9},
        "warnings": ["no \x1b[31meth9", "the last reload failed"],
    }
    async with daemon(tmp_path / "c", status):
        result = await run("--socket", tmp_path / "c")
    assert result.code == 0
    assert result.output.partition("  Trouble")[2] == (
        "       no ?[31meth9\n"
        "                the last reload failed\n"
        "                handshakes failed: 2, the last 2 h ago\n"
        "                adverts rejected: 1, the last 23 h ago\n"
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("counter_ages_s", {"a": "1"}),
        ("counter_ages_s", []),
        ("warnings", [1]),
        ("loop_away_ms", "1"),
        ("requests", [1]),
    ],
)
async def test_malformed_field_is_refused(tmp_path: Path, name: str, wrong: object) -> None:
    async with daemon(tmp_path / "c", {**MASTER, name: wrong}):
        result = await run("--socket", tmp_path / "c")
    assert (result.code, result.output) == (1, "")
    assert f"{name}" in result.errors


async def test_master_shows_the_psk_identity_of_each_member(tmp_path: Path) -> None:
    us, other = MASTER["members"]
    status = {**MASTER, "members": [{**us, "psk_identity": None}, {**other, "psk_identity": "plant\x1b[1m"}]}
    async with daemon(tmp_path / "c", status):
        result = await run("members", "--socket", tmp_path / "c")
    assert [line.rpartition("  ")[2] for line in result.output.splitlines()] == ["PSK", "-", "plant?[1m"]
