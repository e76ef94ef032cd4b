"""The two channels: every message passes at its places, and nowhere else."""

import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.model import (
    ErrorMessage,
    Group,
    GroupChange,
    Handover,
    Heartbeat,
    Join,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Merge,
    Message,
)
from pskkey.wire.frame import PacketType, encode_frame
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.wire.messages import (
    error_messages,
    from_any_client,
    from_any_server,
    group_changes,
    groups,
    handovers,
    joins,
    key_watches,
    member,
    merges,
    numbered_key,
)

PLACES = list(product(Channel, Side))
PASSING: dict[tuple[Channel, Side], st.SearchStrategy[Message]] = {
    (Channel.TLS, Side.SERVER): from_any_client | joins | merges,
    (Channel.TLS, Side.CLIENT): from_any_server | groups | group_changes | merges | handovers,
    (Channel.KEYS, Side.SERVER): from_any_client | key_watches,
    (Channel.KEYS, Side.CLIENT): from_any_server,
}
KEY = numbered_key(0)
STATE = KeyState(4, frozenset({4}), (KeyEntry(7, KEY, send=True),))
GROUP = Group(3, member(1).id, (member(1), member(2)), (member(2).id,))
MESSAGES: dict[str, Message] = {
    "KEY_REQ": KeyRequest(),
    "KEY_REQ response": KeyResponse(KEY),
    "KEY_WATCH": KeyWatch(will_send=True),
    "KEY_STATE": STATE,
    "KEY_ACK": KeyAck(7),
    "KEY_NEW": KeyNew(KeyNewReason.OPERATOR),
    "JOIN": Join("default", member(1), "x", 0, (), sender=False, lease=None),
    "GROUP": GROUP,
    "GROUP_CHANGE": GroupChange(3, 7, 6, members=(member(3),)),
    "HEARTBEAT": Heartbeat(),
    "MERGE": Merge(member(1), 3, 2, 7),
    "HANDOVER": Handover(member(1), 3),
    "ERROR": ErrorMessage("bad", "No."),
}
ALLOWED = {
    (Channel.TLS, Side.SERVER): {"KEY_REQ", "KEY_ACK", "KEY_NEW", "JOIN", "HEARTBEAT", "MERGE", "ERROR"},
    (Channel.TLS, Side.CLIENT): {
        "KEY_REQ response",
        "KEY_STATE",
        "GROUP",
        "GROUP_CHANGE",
        "HEARTBEAT",
        "MERGE",
        "HANDOVER",
        "ERROR",
    },
    (Channel.KEYS, Side.SERVER): {"KEY_REQ", "KEY_WATCH", "KEY_ACK", "KEY_NEW", "HEARTBEAT", "ERROR"},
    (Channel.KEYS, Side.CLIENT): {"KEY_REQ response", "KEY_STATE", "HEARTBEAT", "ERROR"},
}
LIMITS = {
    (Channel.TLS, Side.SERVER): {1: 0, 4: 2, 5: 1, 16: 8192, 18: 0, 19: 8192, 31: 8192},
    (Channel.TLS, Side.CLIENT): {1: 132, 3: 444, 17: 65535, 18: 0, 19: 8192, 20: 65535, 21: 65535, 31: 8192},
    (Channel.KEYS, Side.SERVER): {1: 0, 2: 64, 4: 2, 5: 1, 18: 0, 31: 8192},
    (Channel.KEYS, Side.CLIENT): {1: 132, 3: 444, 18: 0, 31: 8192},
}


def outcome(place: tuple[Channel, Side], pieces: list[bytes]) -> list[Message] | str:
    """Return the messages that a reader makes of these pieces, or the sentence with which it refuses them."""
    reader = PacketReader(*place)
    messages: list[Message] = []
    try:
        for piece in pieces:
            messages += reader.receive_untrusted(piece)
    except BadPacket as error:
        return str(error)
    return messages


def test_golden_frames() -> None:
    assert encode(KeyRequest()).hex() == "01010000"
    assert encode(KeyResponse(KEY)).hex() == "01010080" + bytes(range(128)).hex()
    assert encode(KeyResponse(KEY, 7)).hex() == "01010084" + "0007" + bytes(range(128)).hex() + "ccab"
    assert encode(KeyWatch(will_send=True)).hex() == "01020001" + "01"
    assert encode(KeyWatch(will_send=True, context=0xAB)).hex() == "01020009" + "01" + "00000000000000ab"
    assert encode(STATE).hex()[:8] == "010300ac"  # 172 = 36 + 136
    assert encode(KeyAck(0x0107)).hex() == "01040002" + "0107"
    assert encode(KeyNew(KeyNewReason.SENDER_RESTARTED)).hex() == "01050001" + "03"
    assert encode(Heartbeat()).hex() == "01120000"
    error = b'{"code":"bad","message":"No."}'
    assert encode(ErrorMessage("bad", "No.")) == bytes.fromhex("011f001e") + error


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("name", MESSAGES)
def test_message_passes_at_its_places_and_nowhere_else(place: tuple[Channel, Side], name: str) -> None:
    got = outcome(place, [encode(MESSAGES[name])])
    if name in ALLOWED[place]:
        assert got == [MESSAGES[name]]
    else:
        assert isinstance(got, str)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_header_is_judged_before_its_payload(place: tuple[Channel, Side]) -> None:
    for number in range(256):
        limit = LIMITS[place].get(number, 8192 if number >= 0x80 else None)
        if limit is None:
            assert isinstance(outcome(place, [bytes([1, number, 0, 0])]), str)
            continue
        assert limit == 0 or outcome(place, [bytes([1, number]) + limit.to_bytes(2)]) == []
        if limit < 65535:
            got = outcome(place, [bytes([1, number]) + (limit + 1).to_bytes(2)])
            assert isinstance(got, str)
            assert "announces" in got


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_optional_packets_of_unknown_types_are_skipped(place: tuple[Channel, Side]) -> None:
    later = b"".join(encode_frame(number, bytes(size)) for number, size in ((0x80, 0), (0x90, 3), (0xFF, 8192)))
    heartbeat = encode(Heartbeat())
    assert outcome(place, [later + heartbeat + later + heartbeat]) == [Heartbeat(), Heartbeat()]
    assert outcome(place, [bytes([octet]) for octet in later + heartbeat]) == [Heartbeat()]
    assert outcome(place, [encode_frame(0x7F, b"")]) == "a packet of type 127 is not allowed here"


def test_optional_packet_may_come_between_the_parts_of_a_message() -> None:
    stream = encode(large_group())
    first = 4 + int.from_bytes(stream[2:4])
    later = encode_frame(0x90, b"later")
    assert outcome((Channel.TLS, Side.CLIENT), [stream[:first] + later + stream[first:]]) == [large_group()]


def test_each_optional_packet_takes_a_step_of_its_own() -> None:
    """So a flood of them costs its sender tokens, like a flood of any other packet."""
    reader = PacketReader(Channel.TLS, Side.SERVER)
    reader.add(encode_frame(0x90, b"") * 3 + encode(Heartbeat()))
    taken = []
    while reader.ready:
        taken.append(reader.next_untrusted())
    assert taken == [None, None, None, Heartbeat()]


@pytest.mark.parametrize("place", PLACES, ids=str)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_pieces_give_the_same_messages(place: tuple[Channel, Side], data: st.DataObject) -> None:
    sent = data.draw(st.lists(PASSING[place], max_size=4))
    stream = b"".join(encode(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    assert outcome(place, [stream]) == sent
    assert outcome(place, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == sent
    assert outcome(place, [bytes([octet]) for octet in stream]) == sent


@pytest.mark.parametrize("place", PLACES, ids=str)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_arbitrary_bytes_raise_only_bad_packet(place: tuple[Channel, Side], data: st.DataObject) -> None:
    frames = st.builds(encode_frame, st.sampled_from(sorted(LIMITS[place])), st.binary(max_size=200))
    stream = b"".join(data.draw(st.lists(frames | st.binary(max_size=20), max_size=4)))
    whole, by_byte = outcome(place, [stream]), outcome(place, [bytes([octet]) for octet in stream])
    assert whole == by_byte


@given(error_messages)
@settings(max_examples=30, deadline=None)
def test_a_bad_packet_ends_the_stream(message: ErrorMessage) -> None:
    reader = PacketReader(Channel.KEYS, Side.SERVER)
    with pytest.raises(BadPacket, match="bad KEY_ACK: epoch 0"):
        reader.receive_untrusted(bytes.fromhex("01040002 0000"))
    with pytest.raises(BadPacket, match="given up"):
        reader.receive_untrusted(encode(message))


def large_group() -> Group:
    members = tuple(member(n) for n in range(1, 1001))
    return Group(3, members[0].id, members, tuple(each.id for each in members))


def test_a_large_group_is_one_message_of_several_frames() -> None:
    stream = encode(large_group())
    assert len(stream) > 2 * 65535
    pieces = [stream[start : start + 1400] for start in range(0, len(stream), 1400)]
    assert outcome((Channel.TLS, Side.CLIENT), [stream]) == [large_group()]
    assert outcome((Channel.TLS, Side.CLIENT), pieces) == [large_group()]
    handover = Handover(member(1), 3, large_group().members)
    assert outcome((Channel.TLS, Side.CLIENT), [encode(handover)]) == [handover]


@pytest.mark.parametrize(
    "between", [Heartbeat(), STATE, Handover(member(1), 3)], ids=lambda message: type(message).__name__
)
def test_packet_between_the_parts_of_a_message_is_refused(between: Message) -> None:
    stream = encode(large_group())
    first = 4 + int.from_bytes(stream[2:4])
    got = outcome((Channel.TLS, Side.CLIENT), [stream[:first], encode(between), stream[first:]])
    assert isinstance(got, str)
    assert "between the parts of a GROUP" in got


def test_a_group_of_250_is_read_fast() -> None:
    members = tuple(member(n) for n in range(1, 251))
    stream = encode(Group(3, members[0].id, members, tuple(each.id for each in members)))
    took = []
    for _ in range(5):
        start = time.thread_time()
        PacketReader(Channel.TLS, Side.CLIENT).receive_untrusted(stream)
        took.append(time.thread_time() - start)
    # Processor time; 3 ms on a slow machine. A heartbeat interval is 500 ms.
    assert min(took) < 0.03


def test_every_packet_type_may_pass_somewhere() -> None:
    assert {number for limits in LIMITS.values() for number in limits} == set(PacketType)
