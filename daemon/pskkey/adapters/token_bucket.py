"""Rates: how much somebody may do, and how long they wait when they did more."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

MAX_BUCKETS: Final = 1024
"""Buckets that are kept for those who have used theirs lately; beyond that the one that was used longest ago goes."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` in the long run, and `burst` at once after a pause. Both are above zero."""

    per_second: float
    burst: float


class TokenBucket:
    """Gives tokens at a rate, by reservation: each caller gets a moment of its own, in the order in which they came.

    So those who share a bucket take turns, and each of them needs one timer for one token. A token that was reserved is
    spent, also when its caller is gone by then.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._empty_until = float("-inf")
        """When the last reserved token is there (seconds)."""

    def reserve(self, now: float, tokens: float = 1.0) -> float:
        """Reserve `tokens` at time `now` (seconds) and return the seconds until they are there, 0 for at once."""
        earliest = now - self._rate.burst / self._rate.per_second
        self._empty_until = max(self._empty_until, earliest) + tokens / self._rate.per_second
        # A wait that is shorter than the error of the sums above is none.
        wait = self._empty_until - now
        return wait if wait > 1e-9 else 0.0

    def is_full(self, now: float) -> bool:
        """Whether nothing was reserved for so long that a new bucket would be the same."""
        return self._empty_until <= now - self._rate.burst / self._rate.per_second


class TokenBuckets:
    """A bucket for each of many, such as users or addresses. One who comes back finds the bucket as it was left."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: dict[Hashable, TokenBucket] = {}  # the one asked for longest ago first

    def of(self, owner: Hashable, now: float) -> TokenBucket:
        """Return the bucket of `owner` at time `now` (seconds)."""
        bucket = self._buckets.pop(owner, None) or TokenBucket(self._rate)
        self._buckets[owner] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            used = {other: kept for other, kept in self._buckets.items() if kept is bucket or not kept.is_full(now)}
            self._buckets = dict(list(used.items())[-MAX_BUCKETS:])
        return bucket
