"""Types 1 to 5, byte by byte. The hex is what a C program reads and writes: payloads, without the frame's header."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.model import (
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Suite,
)
from pskkey.wire import keymsg
from tests.wire.messages import (
    accepts_or_bad_packet,
    epochs,
    key_responses,
    key_states,
    numbered_key,
    refused,
)

# 128 bytes that count up from 0x00: pms[64] (48 bytes and 16 of padding), server_random[32], client_random[32].
KEY_00 = """
    000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f
    202122232425262728292a2b2c2d2e2f 303132333435363738393a3b3c3d3e3f
    404142434445464748494a4b4c4d4e4f 505152535455565758595a5b5c5d5e5f
    606162636465666768696a6b6c6d6e6f 707172737475767778797a7b7c7d7e7f
"""
# The same, counting up from 0x80.
KEY_80 = """
    808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f
    a0a1a2a3a4a5a6a7a8a9aaabacadaeaf b0b1b2b3b4b5b6b7b8b9babbbcbdbebf
    c0c1c2c3c4c5c6c7c8c9cacbcccdcecf d0d1d2d3d4d5d6d7d8d9dadbdcdddedf
    e0e1e2e3e4e5e6e7e8e9eaebecedeeef f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
"""
NO_SENDERS = "00" * 32


def test_golden_key_request() -> None:
    assert keymsg.decode_key_request_untrusted(b"") == KeyRequest()
    assert "empty" in refused(keymsg.decode_key_request_untrusted, b"\0")


def test_golden_key_response_of_128_bytes() -> None:
    payload = bytes.fromhex(KEY_00)
    assert len(payload) == 128
    assert keymsg.encode_key_response(KeyResponse(numbered_key(0))) == payload
    assert keymsg.decode_key_response_untrusted(payload) == KeyResponse(numbered_key(0), None)


def test_golden_key_response_of_132_bytes() -> None:
    # epoch 0x0107 | key | suite 00FE
    payload = bytes.fromhex("0107" + KEY_00 + "00fe")
    message = KeyResponse(numbered_key(0, Suite.WDM_WITH_NULL_SHA256), epoch=0x0107)
    assert keymsg.encode_key_response(message) == payload
    assert keymsg.decode_key_response_untrusted(payload) == message


def test_short_form_does_not_have_the_suite() -> None:
    payload = keymsg.encode_key_response(KeyResponse(numbered_key(0, Suite.WDM_WITH_NULL_SHA256)))
    assert keymsg.decode_key_response_untrusted(payload).key.suite is Suite.PSK_CHACHA20_POLY1305


def test_golden_key_watch() -> None:
    assert keymsg.encode_key_watch(KeyWatch(will_send=False)) == bytes.fromhex("00")
    assert keymsg.encode_key_watch(KeyWatch(will_send=True)) == bytes.fromhex("01")
    assert keymsg.decode_key_watch_untrusted(bytes.fromhex("00")) == KeyWatch(will_send=False)
    # Flag bits that have no meaning yet are ignored.
    assert keymsg.decode_key_watch_untrusted(bytes.fromhex("ff")) == KeyWatch(will_send=True)
    assert keymsg.decode_key_watch_untrusted(bytes.fromhex("fe")) == KeyWatch(will_send=False)


def test_golden_key_watch_with_a_sequence_context() -> None:
    payload = bytes.fromhex("01 0123456789abcdef")
    assert keymsg.encode_key_watch(KeyWatch(will_send=True, context=0x0123456789ABCDEF)) == payload
    assert keymsg.decode_key_watch_untrusted(payload) == KeyWatch(will_send=True, context=0x0123456789ABCDEF)
    assert keymsg.decode_key_watch_untrusted(bytes.fromhex("01" + 8 * "00")) == KeyWatch(will_send=True), "none"
    for size in (0, 2, 5, 8, 65):
        with pytest.raises(BadPacket):
            keymsg.decode_key_watch_untrusted(bytes(size))


def test_golden_key_watch_with_a_level() -> None:
    payload = bytes.fromhex("00 0000000000000000 02")
    assert keymsg.encode_key_watch(KeyWatch(will_send=False, level=2)) == payload
    for later in (b"", b"\xff", bytes(54)):
        assert keymsg.decode_key_watch_untrusted(payload + later) == KeyWatch(will_send=False, level=2)
    assert keymsg.decode_key_watch_untrusted(payload[:-1] + b"\0") == KeyWatch(will_send=False), "no level 0"
    for level in (0, 256):
        with pytest.raises(ValueError, match=r"1\.\.255"):
            keymsg.encode_key_watch(KeyWatch(will_send=False, level=level))


def test_golden_key_state_empty() -> None:
    # no sender id leased, no entries, no senders
    payload = bytes.fromhex("00 00 00 00" + NO_SENDERS)
    assert keymsg.encode_key_state(KeyState(None, frozenset(), ())) == payload
    assert keymsg.decode_key_state_untrusted(payload) == KeyState(None, frozenset(), ())


def test_golden_key_state_of_two_entries() -> None:
    payload = bytes.fromhex(
        "04 01 02 00"  # sender_id 4, flags: leased, count 2, reserved
        "11 00 00 00 00 00 00 00  00 02 00 00 00 00 00 00"  # senders: 0 and 4 in byte 0; 73 = 9 * 8 + 1 in byte 9
        "00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 80"  # 255 = the highest bit of the last byte
        # first entry: epoch 7, suite CCAB, flags: receive (next key), reserved, key
        "0007 ccab 02 000000"
        + KEY_80
        +
        # second entry: epoch 6, suite 00FE, flags: send and receive, reserved, key
        "0006 00fe 03 000000"
        + KEY_00
    )
    assert len(payload) == 36 + 2 * 136
    state = KeyState(
        sender_id=4,
        senders=frozenset({0, 4, 73, 255}),
        entries=(
            KeyEntry(7, numbered_key(0x80), send=False, receive=True),
            KeyEntry(6, numbered_key(0x00, Suite.WDM_WITH_NULL_SHA256), send=True, receive=True),
        ),
    )
    assert keymsg.encode_key_state(state) == payload
    assert keymsg.decode_key_state_untrusted(payload) == state


def test_golden_key_ack() -> None:
    assert keymsg.encode_key_ack(KeyAck(0x0107)) == bytes.fromhex("0107")
    assert keymsg.decode_key_ack_untrusted(bytes.fromhex("0107")) == KeyAck(0x0107)


def test_golden_key_new() -> None:
    for octet, reason in (
        ("01", KeyNewReason.OPERATOR),
        ("02", KeyNewReason.SEQUENCE_HIGH_WATER),
        ("03", KeyNewReason.SENDER_RESTARTED),
        ("04", KeyNewReason.RECEIVER_BEGAN),
    ):
        assert keymsg.encode_key_new(KeyNew(reason)) == bytes.fromhex(octet)
        assert keymsg.decode_key_new_untrusted(bytes.fromhex(octet)) == KeyNew(reason)


def test_announced_sizes() -> None:
    assert keymsg.KEY_RESPONSE_MAX_SIZE == 132
    assert keymsg.KEY_STATE_MAX_SIZE == 36 + 3 * 136


@settings(max_examples=60, deadline=None)
@given(key_states())
def test_key_state_round_trip(state: KeyState) -> None:
    assert keymsg.decode_key_state_untrusted(keymsg.encode_key_state(state)) == state


@settings(max_examples=60, deadline=None)
@given(key_responses)
def test_key_response_round_trip(message: KeyResponse) -> None:
    assert keymsg.decode_key_response_untrusted(keymsg.encode_key_response(message)) == message


@settings(max_examples=60, deadline=None)
@given(epochs)
def test_key_ack_round_trip(epoch: int) -> None:
    assert keymsg.decode_key_ack_untrusted(keymsg.encode_key_ack(KeyAck(epoch))) == KeyAck(epoch)


def test_unassigned_bits_and_reserved_bytes_are_ignored() -> None:
    plain = bytes.fromhex("00 00 01 00" + NO_SENDERS + "0001 ccab 02 000000" + KEY_00)
    other = bytes.fromhex("09 fe 01 ff" + NO_SENDERS + "0001 ccab fa ffffff" + KEY_00)
    assert keymsg.decode_key_state_untrusted(other) == keymsg.decode_key_state_untrusted(plain)


def test_bit_2_of_an_entry_marks_a_key_that_nobody_has_sent_with() -> None:
    payload = bytes.fromhex("00 00 01 00" + NO_SENDERS + "0001 ccab 06 000000" + KEY_00)
    state = keymsg.decode_key_state_untrusted(payload)
    assert [entry.unused for entry in state.entries] == [True]
    assert keymsg.encode_key_state(state) == payload


HEAD_OF_ONE = "00 00 01 00" + NO_SENDERS
HEAD_OF_TWO = "00 00 02 00" + NO_SENDERS


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "at least 36"),
        ("00" * 35, "at least 36"),
        ("00" * 37, "0 entries is 36 bytes"),
        ("00 00 04 00" + NO_SENDERS + ("0001 ccab 02 000000" + KEY_00) * 4, "at most 3"),
        ("00 00 ff 00" + NO_SENDERS, "at most 3"),
        (HEAD_OF_ONE, "1 entries is 172 bytes"),
        (HEAD_OF_ONE + "0001 ccab 02 000000" + KEY_00 + "00", "not 173"),
        (HEAD_OF_ONE + "0000 ccab 02 000000" + KEY_00, "epoch 0"),
        (HEAD_OF_ONE + "0001 c0a8 02 000000" + KEY_00, "suite C0A8"),
        (HEAD_OF_TWO + "0001 ccab 02 000000" + KEY_00 + "0001 ccab 02 000000" + KEY_80, "an epoch twice"),
        (HEAD_OF_TWO + "0001 ccab 03 000000" + KEY_00 + "0002 ccab 01 000000" + KEY_80, "more than one key to send"),
    ],
)
def test_malformed_key_state_is_refused(payload: str, reason: str) -> None:
    assert reason in refused(keymsg.decode_key_state_untrusted, bytes.fromhex(payload))


@pytest.mark.parametrize("size", [0, 1, 127, 129, 130, 131, 133])
def test_key_response_of_another_size_is_refused(size: int) -> None:
    assert f"not {size}" in refused(keymsg.decode_key_response_untrusted, bytes(size))


def test_key_response_with_a_wrong_epoch_or_suite_is_refused() -> None:
    assert "epoch 0" in refused(keymsg.decode_key_response_untrusted, bytes.fromhex("0000" + KEY_00 + "ccab"))
    assert "suite 1301" in refused(keymsg.decode_key_response_untrusted, bytes.fromhex("0001" + KEY_00 + "1301"))


def test_malformed_small_packet_is_refused() -> None:
    for payload in (b"", b"\0\1\0", b"\1"):
        assert "KEY_ACK is 2 bytes" in refused(keymsg.decode_key_ack_untrusted, payload)
    assert "epoch 0" in refused(keymsg.decode_key_ack_untrusted, b"\0\0")
    for payload in (b"", b"\0\0"):
        assert "KEY_WATCH is 1 or 9..64 bytes" in refused(keymsg.decode_key_watch_untrusted, payload)
        assert "KEY_NEW is 1 bytes" in refused(keymsg.decode_key_new_untrusted, payload)


def test_reason_of_a_later_version_is_another_one() -> None:
    for octet in (0, 5, 255):
        assert keymsg.decode_key_new_untrusted(bytes([octet])) == KeyNew(KeyNewReason.OTHER)
    assert keymsg.encode_key_new(KeyNew(KeyNewReason.OTHER)) == b"\0"


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=500)
    | st.sampled_from([36, 128, 132, 172, 308, 444]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
)
def test_arbitrary_bytes_raise_only_bad_packet(data: bytes) -> None:
    for decode in (
        keymsg.decode_key_request_untrusted,
        keymsg.decode_key_response_untrusted,
        keymsg.decode_key_watch_untrusted,
        keymsg.decode_key_state_untrusted,
        keymsg.decode_key_ack_untrusted,
        keymsg.decode_key_new_untrusted,
    ):
        accepts_or_bad_packet(decode, data)


@settings(max_examples=80, deadline=None)
@given(key_states(), st.data())
def test_a_damaged_key_state_raises_only_bad_packet(state: KeyState, data: st.DataObject) -> None:
    payload = bytearray(keymsg.encode_key_state(state))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    if accepts_or_bad_packet(keymsg.decode_key_state_untrusted, bytes(payload)):
        again = keymsg.encode_key_state(keymsg.decode_key_state_untrusted(bytes(payload)))
        assert len(again) == len(payload)


def test_value_out_of_bounds_has_no_encoding() -> None:
    key = numbered_key(0)
    for epoch in (0, 65536, -1):
        with pytest.raises(ValueError, match="an epoch is"):
            keymsg.encode_key_ack(KeyAck(epoch))
        with pytest.raises(ValueError, match="an epoch is"):
            keymsg.encode_key_response(KeyResponse(key, epoch))
        with pytest.raises(ValueError, match="an epoch is"):
            keymsg.encode_key_state(KeyState(None, frozenset(), (KeyEntry(epoch, key, send=True),)))
    for sender in (-1, 256):
        with pytest.raises(ValueError, match="a sender id is"):
            keymsg.encode_key_state(KeyState(sender, frozenset(), ()))
        with pytest.raises(ValueError, match="a sender id is"):
            keymsg.encode_key_state(KeyState(None, frozenset({sender}), ()))
    four = tuple(KeyEntry(epoch, key, send=False) for epoch in (1, 2, 3, 4))
    with pytest.raises(ValueError, match="at most 3 entries"):
        keymsg.encode_key_state(KeyState(None, frozenset(), four))
    with pytest.raises(ValueError, match="different epochs"):
        keymsg.encode_key_state(KeyState(None, frozenset(), (four[0], four[0])))
    with pytest.raises(ValueError, match="one entry to send"):
        keymsg.encode_key_state(KeyState(None, frozenset(), (KeyEntry(1, key, send=True), KeyEntry(2, key, send=True))))


def test_no_refusal_shows_key_bytes() -> None:
    payload = bytes.fromhex(HEAD_OF_ONE + "0001 c0a8 02 000000" + KEY_80)
    with pytest.raises(BadPacket) as caught:
        keymsg.decode_key_state_untrusted(payload)
    assert caught.value.__cause__ is None
    assert "808182" not in str(caught.value)
    assert "\\x80" not in repr(caught.value)
