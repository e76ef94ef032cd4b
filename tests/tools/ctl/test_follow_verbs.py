"""`pskkeyctl wait --epoch`: which epochs count as reached, also when their numbers have started over."""

from pathlib import Path

import pytest

from tests.tools.ctl.pskkeyctl_process import MASTER, daemon, run


@pytest.mark.parametrize(
    ("wanted", "current", "reached"),
    [
        (7, 7, True),
        (7, 6, False),
        (1, 7, True),
        (7, 7 + 32767, True),
        (65535, 65535, True),
        (65535, 65534, False),
        (65535, 1, True),
        (65530, 3, True),
        (1, 65535, False),
        (1, 65534, False),
        (3, 65530, False),
        (3, 1, False),
        (9, 1, False),
    ],
)
async def test_epoch_is_reached_by_itself_and_by_later_epochs(
    tmp_path: Path, wanted: int, current: int, reached: bool
) -> None:
    status = {**MASTER, "keys": [{**MASTER["keys"][1], "epoch": current}]}
    timeout = "20" if reached else "1"
    async with daemon(tmp_path / "c", status):
        result = await run("wait", "--epoch", str(wanted), "--timeout", timeout, "--socket", tmp_path / "c")
    assert result.code == (0 if reached else 5)
    message = f"pskkeyctl: epoch {wanted}: not within {timeout} s: this node sends with epoch {current}\n"
    assert result.errors == ("" if reached else message)


async def test_expired_key_does_not_count(tmp_path: Path) -> None:
    expired = {"kind": "key_expired", "peer": None, "address": None, "text": "t", "remedy": "r", "since_s": 9.0}
    async with daemon(tmp_path / "c", {**MASTER, "conditions": [expired]}):
        result = await run("wait", "--epoch", "1", "--timeout", "1", "--socket", tmp_path / "c")
    assert result.code == 5
    assert result.errors.endswith("this node does not send, because its key has expired\n")
