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
