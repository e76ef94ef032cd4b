"""The state that is saved for the next process comes back as it was, or not at all."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.model import (
    Key,
    SavedKey,
    SavedLease,
    SavedManager,
    SavedRing,
    SavedState,
    Slot,
    Suite,
)
from pskkey.secret import Secret
from pskkey.wire.saved import MAX_SAVED_MANAGERS, MAX_SAVED_SIZE, decode_saved_untrusted, encode_saved

texts = st.text(max_size=255).filter(lambda text: len(text.encode()) <= 255)
keys = st.builds(
    Key,
    st.binary(min_size=64, max_size=64).map(Secret),
    *[st.binary(min_size=32, max_size=32)] * 2,
    st.sampled_from(Suite),
)
fingerprints = st.binary(min_size=8, max_size=8).map(bytes.hex)
saved_keys = st.builds(SavedKey, st.integers(1, 65535), keys, st.sampled_from(Slot), st.floats(0, 1e9, allow_nan=False))
leases = st.builds(SavedLease, st.none() | st.integers(0, 255), st.frozensets(st.integers(0, 255)))
rings = st.builds(
    SavedRing,
    st.lists(saved_keys, max_size=3).map(tuple),
    leases,
    st.lists(saved_keys, max_size=3).map(tuple),
    st.none() | leases,
    st.just("") | fingerprints,
)
contexts = st.integers(0, 2**64 - 1)
states = st.builds(
    SavedState,
    texts,
    texts,
    texts,
    st.integers(0, 2**53),
    rings,
    st.lists(st.tuples(st.text(max_size=32), st.none() | st.integers(0, 255)), max_size=20).map(tuple),
    st.lists(st.tuples(fingerprints, contexts), max_size=64).map(tuple),
    st.lists(st.builds(SavedManager, contexts, st.booleans(), st.booleans()), max_size=20).map(tuple),
    st.none() | st.floats(-1e9, 1e9),
)

TAIL_SIZE = 17
"""Bytes of the tail, without its size."""

FULL = SavedState(
    "g" * 255,
    "n" * 255,
    "i" * 255,
    2**53,
    SavedRing(
        tuple(SavedKey(65535, Key(Secret(bytes(64)), bytes(32), bytes(32)), slot, 1.5) for slot in Slot),
        SavedLease(255, frozenset(range(256))),
        (SavedKey(7, Key(Secret(bytes(64)), bytes(32), bytes(32)), Slot.CURRENT, 1.5),) * 3,
        SavedLease(255, frozenset(range(256))),
        "ab" * 8,
    ),
    tuple((f"{number:032x}", number % 256 or None) for number in range(4096)),
    tuple((f"{number:016x}", 2**64 - 1) for number in range(64)),
    (SavedManager(3, asked_to_send=True, acknowledges=False),) * MAX_SAVED_MANAGERS,
    1.5,
)


@settings(max_examples=150, deadline=None)
@given(states)
def test_every_state_comes_back_as_it_was(state: SavedState) -> None:
    assert decode_saved_untrusted(bytes(encode_saved(state))) == state


def test_the_largest_state_fits() -> None:
    assert len(encode_saved(FULL)) <= MAX_SAVED_SIZE
    assert decode_saved_untrusted(bytes(encode_saved(FULL))) == FULL


@pytest.mark.parametrize("size", [*range(0, 900, 7), *range(900, len(encode_saved(FULL)), 997)])
def test_a_state_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(BadPacket):
        decode_saved_untrusted(bytes(encode_saved(FULL)[:size]))


def cut_tail(state: SavedState) -> tuple[bytes, bytes, bytes]:
    """Return the bytes of a state before its tail, the size of the tail, and the tail."""
    encoded = bytes(encode_saved(state))
    return encoded[: -TAIL_SIZE - 4], encoded[-TAIL_SIZE - 4 : -TAIL_SIZE], encoded[-TAIL_SIZE:]


@settings(max_examples=50, deadline=None)
@given(states, st.binary(max_size=300))
def test_tail_of_a_later_version_is_ignored(state: SavedState, tail: bytes) -> None:
    rest, size, known = cut_tail(state)
    assert int.from_bytes(size) == len(known)
    assert decode_saved_untrusted(rest + (len(known) + len(tail)).to_bytes(4) + known + tail) == state


@pytest.mark.parametrize("size", range(TAIL_SIZE))
def test_state_of_a_version_with_a_shorter_tail_has_the_default(size: int) -> None:
    rest, _, known = cut_tail(FULL)
    state = replace(FULL, ring=replace(FULL.ring, known_outside=""))
    if size < 9:
        state = replace(state, without_master_since=None)
    assert decode_saved_untrusted(rest + size.to_bytes(4) + known[:size]) == state


def test_unknown_flags_are_ignored() -> None:
    state = SavedState("g", "n", "i", 1, managers=(SavedManager(3, asked_to_send=True, acknowledges=False),))
    encoded = bytearray(encode_saved(state))
    encoded[-TAIL_SIZE] |= 0xFC
    encoded[-TAIL_SIZE - 4 - 9] |= 0xFC  # the flags of the last session manager
    assert decode_saved_untrusted(bytes(encoded)) == state


@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_time_that_is_no_number_is_refused(number: float) -> None:
    key = SavedKey(1, Key(Secret(bytes(64)), bytes(32), bytes(32)), Slot.CURRENT, number)
    for wrong in (replace(FULL, without_master_since=number), replace(FULL, ring=SavedRing((), unlisted=(key,)))):
        with pytest.raises(BadPacket):
            decode_saved_untrusted(bytes(encode_saved(wrong)))


def test_another_form_and_trailing_bytes_are_refused() -> None:
    encoded = bytes(encode_saved(FULL))
    for wrong in (b"\x02" + encoded[1:], encoded + b"\0", encoded[:-1], encoded[: -TAIL_SIZE - 4] + b"\xff" * 4):
        with pytest.raises(BadPacket):
            decode_saved_untrusted(wrong)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 600))
def test_rubbish_raises_only_bad_packet(rubbish: bytes, at: int) -> None:
    encoded = bytes(encode_saved(FULL))
    try:
        decode_saved_untrusted(encoded[:at] + rubbish + encoded[at + len(rubbish) :])
        decode_saved_untrusted(rubbish)
    except BadPacket:
        return
