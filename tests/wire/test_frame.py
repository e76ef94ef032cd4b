"""Frames: a stream is cut into packets whatever its pieces are, and a frame that is too long is refused early."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.wire.frame import Frame, FrameReader, PacketType, encode_frame

LIMITS = {1: 0, 3: 40, 18: 65535}

frames = st.one_of(
    st.builds(Frame, st.just(1), st.just(b"")),
    st.builds(Frame, st.just(3), st.binary(max_size=40)),
    st.builds(Frame, st.just(18), st.binary(max_size=300)),
)


def test_golden_bytes() -> None:
    # A key request: version 1, type 1, no payload. This is what `printf '\1\1\0\0'` sends.
    assert encode_frame(PacketType.KEY_REQ, b"") == bytes.fromhex("01 01 0000")
    # The size is big-endian: 0x0102 = 258 bytes.
    assert encode_frame(PacketType.JOIN, bytes(258))[:4] == bytes.fromhex("01 10 0102")


def test_packet_type_numbers() -> None:
    assert {packet_type.name: packet_type.value for packet_type in PacketType} == {
        "KEY_REQ": 1,
        "KEY_WATCH": 2,
        "KEY_STATE": 3,
        "KEY_ACK": 4,
        "KEY_NEW": 5,
        "JOIN": 16,
        "GROUP": 17,
        "HEARTBEAT": 18,
        "MERGE": 19,
        "HANDOVER": 20,
        "GROUP_CHANGE": 21,
        "ERROR": 31,
    }


@settings(max_examples=80, deadline=None)
@given(st.lists(frames, max_size=6), st.data())
def test_any_pieces_give_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(frame.type, frame.payload) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    by_pieces, by_byte = FrameReader(LIMITS), FrameReader(LIMITS)
    assert FrameReader(LIMITS).receive_untrusted(stream) == sent
    assert [frame for piece in pieces for frame in by_pieces.receive_untrusted(piece)] == sent
    assert [frame for octet in stream for frame in by_byte.receive_untrusted(bytes([octet]))] == sent


def test_a_frame_comes_out_with_its_last_byte() -> None:
    reader = FrameReader(LIMITS)
    stream = encode_frame(3, b"abc")
    assert reader.receive_untrusted(stream[:-1]) == []
    assert reader.receive_untrusted(stream[-1:]) == [Frame(3, b"abc")]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("00 01 0000", "version 0"),
        ("02 01 0000", "version 2"),
        ("01 02 0000", "type 2"),
        ("01 7f 0000", "type 127"),
        ("01 80 2001", "announces 8193 bytes, at most 8192"),
        ("01 01 0001", "announces 1 bytes, at most 0"),
        ("01 03 0029", "announces 41 bytes, at most 40"),
        ("01 03 ffff", "announces 65535 bytes"),
    ],
)
def test_frame_is_refused_at_its_header_before_any_payload(header: str, reason: str) -> None:
    reader = FrameReader(LIMITS)
    octets = bytes.fromhex(header)
    assert reader.receive_untrusted(octets[:3]) == []
    with pytest.raises(BadPacket, match=reason):
        reader.receive_untrusted(octets[3:])
    with pytest.raises(BadPacket, match=reason):
        reader.receive_untrusted(encode_frame(1, b""))


def test_payload_of_exactly_the_limit_is_allowed() -> None:
    assert FrameReader(LIMITS).receive_untrusted(encode_frame(3, bytes(40))) == [Frame(3, bytes(40))]
    assert FrameReader(LIMITS).receive_untrusted(encode_frame(18, bytes(65535))) == [Frame(18, bytes(65535))]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda tail: b"\x01" + tail, st.binary(max_size=200)))
def test_arbitrary_bytes_have_the_same_outcome_whole_or_by_byte(data: bytes) -> None:
    def outcome(pieces: list[bytes]) -> tuple[list[Frame], str]:
        reader, got = FrameReader(LIMITS), []
        try:
            for piece in pieces:
                got += reader.receive_untrusted(piece)
        except BadPacket as error:
            return [], str(error)
        return got, ""

    assert outcome([data]) == outcome([bytes([octet]) for octet in data])


def test_flood_of_frames_takes_no_memory_afterwards() -> None:
    reader = FrameReader(LIMITS)
    flood = encode_frame(3, bytes(40)) * 2000 + encode_frame(3, bytes(40))[:-1]
    tracemalloc.start()
    try:
        reader.receive_untrusted(flood)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 10_000
    assert reader.receive_untrusted(b"\0") == [Frame(3, bytes(40))]


def test_a_large_piece_is_cut_in_linear_time() -> None:
    # 100,000 frames in one piece: quadratic cutting would take minutes.
    assert len(FrameReader(LIMITS).receive_untrusted(encode_frame(1, b"") * 100_000)) == 100_000


def test_value_out_of_bounds_has_no_encoding() -> None:
    with pytest.raises(ValueError, match=r"0\.\.255"):
        encode_frame(256, b"")
    with pytest.raises(ValueError, match="at most 65535"):
        encode_frame(1, bytes(65536))


def test_a_frame_does_not_print_its_payload() -> None:
    assert "secret" not in repr(Frame(1, b"secret"))
