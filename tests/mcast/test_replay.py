"""The replay window against a naive twin that remembers everything."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.mcast import ReplayWindow


class NaiveWindow:
    """RFC 6347 section 4.1.2.6 in its plainest form; refused: seen, or more than 63 below the highest seen."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def check(self, sequence: int) -> bool:
        return sequence not in self.seen and sequence > max(self.seen, default=-1) - 64


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 200), st.integers(0, (1 << 40) - 1)), max_size=100))
def test_agrees_with_a_naive_window(sequences: list[int]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    for sequence in sequences:
        assert window.check(sequence) == naive.check(sequence)
        window.update(sequence)
        naive.seen.add(sequence)
        assert not window.check(sequence)


def test_agrees_with_a_naive_window_near_the_largest_numbers() -> None:
    rng = random.Random(1)
    window, naive = ReplayWindow(), NaiveWindow()
    highest = (1 << 40) - 5000
    for _ in range(3000):
        sequence = max(0, highest + rng.randint(-80, 3))
        assert window.check(sequence) == naive.check(sequence), f"at {sequence}"
        window.update(sequence)
        naive.seen.add(sequence)
        highest = max(highest, sequence)


def test_checking_changes_nothing() -> None:
    window = ReplayWindow()
    assert all(window.check(1 << 39) for _ in range(3))
    assert window.check(0)
