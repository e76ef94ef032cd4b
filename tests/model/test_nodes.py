"""Node ids, as far as people see them."""

import pytest

from pskkey.model import count_distinct_digits

LONG = "0123456789abcdef0123456789abcde"


@pytest.mark.parametrize(
    ("ids", "digits"),
    [
        ((), 8),
        (("0a000001",), 8),
        (("0a000001", "0b000002"), 8),
        (("0000000000000001", "0000000000000002"), 16),
        (("0000000000000001", "0000000000000001"), 8),
        (("5f3a0b12ff", "5f3a0b1200", "77aa0102ff"), 9),
        (("01234567", "0123456789"), 9),
        ((LONG + "0", LONG + "1", LONG + "2", "ffffffff"), 32),
    ],
)
def test_beginnings_of_ids_grow_until_all_differ(ids: tuple[str, ...], digits: int) -> None:
    assert count_distinct_digits(ids) == digits
    assert len({one[:digits] for one in ids}) == len(set(ids))
