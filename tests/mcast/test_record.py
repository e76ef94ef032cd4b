"""Records compared with those of wolfSSL, and records that were changed on their way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.mcast import RecordProtection
from pskkey.mcast.record import APPLICATION_DATA, SEQUENCE_LIMIT, AuthenticationFailed
from pskkey.mcast.traffic_keys import derive_master_secret, derive_traffic_keys
from pskkey.model import Suite
from tests.mcast.vectors import Derivation, Record, group_key, load

DERIVATIONS, RECORDS = load()
SUITES = pytest.mark.parametrize("suite", list(Suite))


def test_vectors_hold_both_suites_and_alerts() -> None:
    assert {record.key.suite for record in RECORDS} == set(Suite)
    assert {record.content_type for record in RECORDS} == {21, 23}
    assert len(RECORDS) >= 17


@pytest.mark.parametrize("derivation", DERIVATIONS)
def test_derives_what_wolfssl_derives(derivation: Derivation) -> None:
    assert derive_master_secret(derivation.key).reveal() == derivation.master_secret
    keys = derive_traffic_keys(derivation.key)
    for derived, expected in (
        (keys.mac_key, derivation.mac_key),
        (keys.key, derivation.cipher_key),
        (keys.iv, derivation.iv),
    ):
        assert expected is None or derived.reveal() == expected


@pytest.mark.parametrize("vector", RECORDS)
def test_reproduces_and_opens_every_record_of_wolfssl(vector: Record) -> None:
    protection = RecordProtection(vector.key, vector.epoch)
    sealed = protection.seal(vector.sender_id, vector.sequence, vector.plaintext, vector.content_type)
    assert sealed == vector.record
    assert protection.open(vector.record) == (vector.sender_id, vector.sequence, vector.plaintext)


@pytest.mark.parametrize("vector", RECORDS)
def test_refuses_every_bit_flip_and_every_truncation(vector: Record) -> None:
    protection = RecordProtection(vector.key, vector.epoch)
    for bit in range(len(vector.record) * 8):
        changed = bytearray(vector.record)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadPacket):
            protection.open(bytes(changed))
    for size in range(len(vector.record)):
        with pytest.raises(BadPacket):
            protection.open(vector.record[:size])
    with pytest.raises(BadPacket):
        protection.open(vector.record + b"\0")


@settings(max_examples=200, deadline=None)
@given(
    suite=st.sampled_from(Suite),
    epoch=st.integers(1, 65535),
    sender_id=st.integers(0, 255),
    sequence=st.integers(0, SEQUENCE_LIMIT - 1),
    plaintext=st.binary(max_size=300),
    data=st.data(),
)
def test_opens_sealed_records_and_no_others(
    suite: Suite, epoch: int, sender_id: int, sequence: int, plaintext: bytes, data: st.DataObject
) -> None:
    protection = RecordProtection(group_key(1, suite), epoch)
    record = protection.seal(sender_id, sequence, plaintext)
    assert record[0] == APPLICATION_DATA
    assert protection.open(record) == (sender_id, sequence, plaintext)

    wrong_sender = record[:5] + bytes([data.draw(st.integers(0, 255).filter(lambda n: n != sender_id))]) + record[6:]
    wrong_epoch = data.draw(st.integers(1, 65535).filter(lambda n: n != epoch))
    other_epoch = record[:3] + wrong_epoch.to_bytes(2) + record[5:]
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    flipped = bytearray(record)
    flipped[bit // 8] ^= 1 << bit % 8
    truncated = record[: data.draw(st.integers(0, len(record) - 1))]
    for forged in (wrong_sender, other_epoch, bytes(flipped), truncated):
        with pytest.raises(BadPacket):
            protection.open(forged)
    with pytest.raises(BadPacket):
        RecordProtection(group_key(1, suite), wrong_epoch).open(other_epoch)
    with pytest.raises(BadPacket):
        RecordProtection(group_key(2, suite), epoch).open(record)


@settings(max_examples=300, deadline=None)
@given(suite=st.sampled_from(Suite), rubbish=st.binary(max_size=200))
def test_rubbish_is_a_bad_packet(suite: Suite, rubbish: bytes) -> None:
    with pytest.raises(BadPacket):
        RecordProtection(group_key(1, suite), 7).open(rubbish)


@settings(max_examples=300, deadline=None)
@given(suite=st.sampled_from(Suite), number=st.binary(min_size=6, max_size=6), body=st.binary(max_size=100))
def test_rubbish_under_a_good_header_fails_authentication(suite: Suite, number: bytes, body: bytes) -> None:
    record = b"\x17\xfe\xfd\x00\x07" + number + len(body).to_bytes(2) + body
    with pytest.raises(BadPacket) as caught:
        RecordProtection(group_key(1, suite), 7).open(record)
    overhead = 32 if suite is Suite.WDM_WITH_NULL_SHA256 else 16
    assert isinstance(caught.value, AuthenticationFailed) == (len(body) >= overhead)


@SUITES
def test_record_is_not_opened_with_the_other_suite(suite: Suite) -> None:
    other = next(other for other in Suite if other is not suite)
    record = RecordProtection(group_key(1, suite), 7).seal(1, 0, bytes(64))
    with pytest.raises(BadPacket):
        RecordProtection(group_key(1, other), 7).open(record)


@SUITES
def test_values_out_of_bounds_are_not_sealed(suite: Suite) -> None:
    protection = RecordProtection(group_key(1, suite), 7)
    longest = protection.seal(255, SEQUENCE_LIMIT - 1, bytes(1 << 14))
    assert protection.open(longest) == (255, SEQUENCE_LIMIT - 1, bytes(1 << 14))
    for sender_id, sequence, size in (
        (-1, 0, 1),
        (256, 0, 1),
        (0, -1, 1),
        (0, SEQUENCE_LIMIT, 1),
        (0, 0, (1 << 14) + 1),
    ):
        with pytest.raises(ValueError, match=r"sender id|do not fit"):
            protection.seal(sender_id, sequence, bytes(size))
    for epoch in (0, 65536):
        with pytest.raises(ValueError, match="epoch"):
            RecordProtection(group_key(1, suite), epoch)


def test_repr_shows_no_part_of_the_key() -> None:
    key = group_key(0x41)
    shown = repr(RecordProtection(key, 7)) + repr(derive_traffic_keys(key))
    keys = derive_traffic_keys(key)
    assert keys.key.reveal().hex() not in shown
    assert repr(keys.key.reveal())[2:-1] not in shown
    assert "AAAA" not in shown
