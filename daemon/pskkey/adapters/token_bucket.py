"""Rates: how much a peer or user may do, and how long it waits after it did more."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

MAX_BUCKETS: Final = 1024
"""Buckets that are kept for owners which used them lately. One more removes the bucket that was used longest ago."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` in the long run, and `burst` at once after a pause. Both are above zero."""

    per_second: float
    burst: float


class TokenBucket:
    """Gives tokens at a rate, by reservation: each caller gets a time of its own, in the order of the calls.

    So the callers that share a bucket take turns, and each needs one timer for one token. A reserved token is spent,
    also when its caller has gone before the token is there.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._empty_until = float("-inf")
        """When the last reserved token is there (seconds)."""

    def reserve(self, now: float, tokens: float = 1.0) -> float:
        """Reserve `tokens` at time `now` (seconds) and return the seconds until they are there, 0 for at once."""
        earliest = now - self._rate.burst / self._rate.per_second
        self._empty_until = max(self._empty_until, earliest) + tokens / self._rate.per_second
        # A wait that is shorter than the rounding error of the sums above counts as none.
        wait = self._empty_until - now
        return wait if wait > 1e-9 else 0.0

    def is_full(self, now: float) -> bool:
        """Whether all tokens are there, so that a new bucket would be the same."""
        return self._empty_until <= now - self._rate.burst / self._rate.per_second


class TokenBuckets:
    """A bucket for each of many owners, such as users or addresses. A returning owner finds its bucket unchanged."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: dict[Hashable, TokenBucket] = {}  # the one that was used longest ago is first

    def of(self, owner: Hashable, now: float) -> TokenBucket:
        """Return the bucket of `owner` at time `now` (seconds)."""
        bucket = self._buckets.pop(owner, None) or TokenBucket(self._rate)
        self._buckets[owner] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            used = {other: kept for other, kept in self._buckets.items() if kept is bucket or not kept.is_full(now)}
            self._buckets = dict(list(used.items())[-MAX_BUCKETS:])
        return bucket
