"""A stranger records adverts and sends them again: five daemons stay one group, in time."""

from typing import Any, Final

import pytest

from tests.hostile.outcome import attacks_of, hold, rows_of

KINDS: Final = ("replay",)

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """The row of each attack."""
    return rows_of(*KINDS)


@pytest.mark.parametrize("attack", attacks_of(*KINDS))
def test_a_group_stays_one_under(attack: str, rows: dict[str, dict[str, Any]]) -> None:
    hold(rows[attack])
