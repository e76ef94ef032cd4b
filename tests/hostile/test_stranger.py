"""A stranger, without the PSK, sends datagrams and opens connections: five daemons stay one group, in time."""

from typing import Any, Final

import pytest

from tests.hostile.attacks import CALM
from tests.hostile.command import RATE
from tests.hostile.outcome import attacks_of, hold, rows_of

KINDS: Final = ("mdns", "tls")
LEAST_OF_RATE: Final = 0.5
"""With six daemons on two processors, the attacker cannot send all the smallest datagrams that are due."""
MOST_OF_RATE: Final = 1.1

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """The row of each attack."""
    return rows_of(*KINDS)


@pytest.mark.parametrize("attack", attacks_of(*KINDS))
def test_a_group_stays_one_under(attack: str, rows: dict[str, dict[str, Any]]) -> None:
    hold(rows[attack])


def test_a_calm_group_keeps_every_bound(rows: dict[str, dict[str, Any]]) -> None:
    assert not rows[CALM]["faults"], rows[CALM]


@pytest.mark.parametrize("attack", attacks_of("mdns"))
def test_the_attack_has_its_rate(attack: str, rows: dict[str, dict[str, Any]]) -> None:
    assert LEAST_OF_RATE * RATE < rows[attack]["attack_bytes_a_second"] < MOST_OF_RATE * RATE
