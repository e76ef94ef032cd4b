"""Rates: a burst at once, then one token after the other. An owner that leaves and returns gains nothing."""

import pytest

from pskkey.adapters.token_bucket import MAX_BUCKETS, Rate, TokenBucket, TokenBuckets

RATE = Rate(per_second=10.0, burst=3.0)


def test_burst_is_available_at_once_and_then_a_token_each_tenth_of_a_second() -> None:
    bucket = TokenBucket(RATE)
    assert [bucket.reserve(100.0) for _ in range(6)] == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])
    assert bucket.reserve(100.35) == pytest.approx(0.05)


def test_pause_fills_the_bucket_to_the_burst_and_no_further() -> None:
    bucket = TokenBucket(RATE)
    for _ in range(10):
        bucket.reserve(100.0)
    assert not bucket.is_full(100.9)
    assert bucket.is_full(101.0)
    assert [bucket.reserve(9000.0) for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_reservation_after_one_of_many_tokens_waits_for_all_of_them() -> None:
    bucket = TokenBucket(RATE)
    assert bucket.reserve(100.0, 3.0) == 0
    assert bucket.reserve(100.0, 5.0) == pytest.approx(0.5)
    assert bucket.reserve(100.0) == pytest.approx(0.6)


def test_callers_that_share_a_bucket_get_different_times() -> None:
    bucket = TokenBucket(RATE)
    times = [bucket.reserve(100.0) for _ in range(200)]
    assert len(set(times[3:])) == len(times[3:])
    assert times == sorted(times)


def test_each_owner_has_a_bucket_and_finds_it_unchanged() -> None:
    buckets = TokenBuckets(RATE)
    for _ in range(3):
        assert buckets.of("a", 100.0).reserve(100.0) == 0
    assert buckets.of("b", 100.0).reserve(100.0) == 0
    assert buckets.of("a", 100.0).reserve(100.0) == pytest.approx(0.1)


def test_buckets_of_many_owners_are_bounded_and_the_used_ones_stay() -> None:
    buckets = TokenBuckets(RATE)
    for _ in range(50):
        buckets.of("heavy", 100.0).reserve(100.0)
    for number in range(10 * MAX_BUCKETS):
        buckets.of(number, 100.0)
    assert buckets.of("heavy", 100.0).reserve(100.0) > 1
    for number in range(10 * MAX_BUCKETS):
        buckets.of(number, 100.0).reserve(100.0)
    assert buckets.of("heavy", 100.0).reserve(100.0) == 0, "beyond the bound, the bucket with the oldest use is removed"
