"""Records and replay windows of pskkey and of wolfSSL agree, in memory."""

import random

import pytest

from pskkey.mcast import GroupSession, RecordProtection, ReplayWindow
from pskkey.model import KeyEntry, Suite
from tests.interop.wolfssl import Opened, WolfMember, WolfWindow
from tests.mcast.vectors import group_key, key_state

SUITES = pytest.mark.parametrize("suite", list(Suite))
SIZES = (1, 12, 64, 1000, 1300)  # wolfSSL writes no record over its MTU of 1400 bytes


@SUITES
@pytest.mark.parametrize(("epoch", "our_id", "wolf_id"), [(1, 1, 2), (65535, 255, 0)])
def test_each_implementation_opens_the_records_of_the_other(
    suite: Suite, epoch: int, our_id: int, wolf_id: int
) -> None:
    key = group_key(3, suite)
    protection = RecordProtection(key, epoch)
    wolf = WolfMember(key, epoch, wolf_id, [our_id])
    for sequence, size in enumerate(SIZES):
        plaintext = random.Random(size).randbytes(size)
        assert wolf.open(protection.seal(our_id, sequence, plaintext)) == Opened(our_id, plaintext)
        assert protection.open(wolf.seal(plaintext)) == (wolf_id, sequence, plaintext)
    wolf.close()


@SUITES
def test_wolfssl_opens_sequence_numbers_of_more_than_32_bits(suite: Suite) -> None:
    key = group_key(3, suite)
    protection = RecordProtection(key, 7)
    wolf = WolfMember(key, 7, 2, [1])
    # wolfSSL takes growing sequence numbers, but refuses a jump over a whole 2^32.
    for sequence in (0, (1 << 32) - 1, 1 << 32, (1 << 33) - 1, 1 << 33):
        assert wolf.open(protection.seal(1, sequence, b"x")) == Opened(1, b"x"), f"at {sequence}"
    wolf.close()


@SUITES
def test_wolfssl_and_pskkey_refuse_the_same_records(suite: Suite) -> None:
    key = group_key(3, suite)
    wolf = WolfMember(key, 7, 2, [1, 3])
    session = GroupSession()
    session.apply(key_state(2, KeyEntry(7, key, send=True)))
    protection = RecordProtection(key, 7)
    good = protection.seal(1, 100, b"good")
    datagrams = {
        "good": good,
        "replay": good,
        "too old": protection.seal(1, 36, b"x"),
        "just in the window": protection.seal(1, 37, b"x"),
        "changed": protection.seal(1, 101, b"x")[:-1] + b"\0",
        "own": protection.seal(2, 0, b"x"),
        "not in the group": protection.seal(9, 0, b"x"),
        "another epoch": RecordProtection(key, 8).seal(1, 102, b"x"),
        "another sender": good[:5] + b"\x03" + good[6:],
        "good again": protection.seal(1, 102, b"x"),
    }
    expected = {name for name, datagram in datagrams.items() if session.receive(datagram) is not None}
    assert expected == {"good", "just in the window", "good again"}
    for name, datagram in datagrams.items():
        assert (wolf.open(datagram) is not None) == (name in expected), name
    wolf.close()


@SUITES
def test_an_alert_of_a_leaving_wolfssl_member_does_not_stop_reception(suite: Suite) -> None:
    key = group_key(3, suite)
    session = GroupSession()
    session.apply(key_state(2, KeyEntry(7, key, send=True)))
    protection = RecordProtection(key, 7)
    assert session.receive(protection.seal(1, 0, b"\x01\x00", content_type=21)) is None
    assert session.receive(protection.seal(1, 1, b"x")) is not None
    assert session.counters["not_application_data"] == 1


@pytest.mark.parametrize("start", [0, (1 << 32) - 20_000, (1 << 40) - 200_000])
def test_replay_window_agrees_over_100000_random_steps(start: int) -> None:
    rng = random.Random(start + 1)
    our_window, wolf_window = ReplayWindow(), WolfWindow()
    highest, taken = start, 0
    for step in range(100_000):
        jump = rng.choice((1, 1, 2, rng.randint(-70, 0), rng.randint(-5, 5), rng.randint(-70, 70) // 35))
        sequence = max(0, highest + jump)
        fresh = our_window.check(sequence)
        assert fresh == wolf_window.check(sequence), f"step {step}: {sequence} with {highest} as the highest"
        if fresh:
            our_window.update(sequence)
            wolf_window.update(sequence)
            taken += 1
        highest = max(highest, sequence)
    assert 20_000 < taken < 90_000
    assert [our_window.check(highest - back) for back in range(70)] == [
        wolf_window.check(highest - back) for back in range(70)
    ]


def test_replay_window_agrees_over_wide_jumps() -> None:
    rng = random.Random(1)
    our_window, wolf_window = ReplayWindow(), WolfWindow()
    highest = 0
    for step in range(20_000):
        sequence = max(
            0, highest + rng.choice((1, 31, 32, 33, 63, 64, 65, 200, -31, -32, -63, -64, -rng.randint(0, 99)))
        )
        assert our_window.check(sequence) == wolf_window.check(sequence), f"step {step}"
        if our_window.check(sequence):
            our_window.update(sequence)
            wolf_window.update(sequence)
        highest = max(highest, sequence)
