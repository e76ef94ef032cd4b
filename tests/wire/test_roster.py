"""GROUP and HANDOVER: lists that may need many frames, cut and joined again."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import FailFast

from pskkey.errors import BadPacket
from pskkey.model import Group, Handover, Levels
from pskkey.wire.fields import Packet
from pskkey.wire.frame import MAX_PAYLOAD, PacketType
from pskkey.wire.roster import MAX_PARTS, RosterReader, encode_group, encode_handover
from tests.wire.messages import accepts_or_bad_packet, groups, handovers, member, refused

MASTER = f"{1:032x}"


def group_of(count: int, name: str | None = None) -> Group:
    members = tuple(member(n, name) for n in range(1, count + 1))
    return Group(9, MASTER, members, tuple(each.id for each in members))


def read_group(payloads: list[bytes]) -> list[Group]:
    reader = RosterReader()
    read = [reader.receive_group_untrusted(payload) for payload in payloads]
    return [message for message in read if message is not None]


def edited(payload: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(payload), **fields}).encode()


def test_golden_json() -> None:
    (payload,) = encode_group(group_of(1))
    assert json.loads(payload) == {
        "term": 9,
        "master": MASTER,
        "part": 1,
        "parts": 1,
        "members": [
            {
                "id": MASTER,
                "name": "node-1",
                "addresses": ["10.0.0.1", "fe80::1"],
                "port": 11111,
                "priority": 100,
                "eligible": True,
                "sender_id": 1,
                "acked_epoch": 7,
                "version": "",
                "speaks": [1, 1],
            }
        ],
        "succession": [MASTER],
        "times": {"heartbeat_interval": 0.5, "dead_after": 1.5},
        "level": 1,
        "key_age": 0,
        "known_outside": "",
    }
    (payload,) = encode_handover(Handover(member(1), 9))
    handover = json.loads(payload)
    assert handover["master"]["id"] == MASTER
    assert {**handover, "master": None} == {"term": 9, "master": None, "part": 1, "parts": 1, "members": []}


@settings(max_examples=60, deadline=None)
@given(groups)
def test_group_round_trip(message: Group) -> None:
    assert read_group(encode_group(message)) == [message]


@settings(max_examples=60, deadline=None)
@given(handovers)
def test_handover_round_trip(message: Handover) -> None:
    (payload,) = encode_handover(message)
    assert RosterReader().receive_handover_untrusted(payload) == message


@pytest.mark.parametrize("count", [0, 1, 250, 300, 1024, 4096])
def test_a_group_of_any_size_is_cut_and_joined(count: int) -> None:
    message = group_of(count)
    payloads = encode_group(message)
    assert max(len(payload) for payload in payloads) <= 65535
    assert read_group(payloads) == [message]
    # The shares are packed: no more frames than one above what the bytes need.
    assert len(payloads) <= sum(len(payload) for payload in payloads) // 65535 + 2
    if count >= 1024:
        assert len(payloads) > 1


def test_handover_of_the_largest_group_is_cut_and_joined() -> None:
    message = Handover(member(1), 9, group_of(4096).members)
    reader = RosterReader()
    payloads = encode_handover(message)
    assert [reader.receive_handover_untrusted(payload) for payload in payloads] == [None] * (len(payloads) - 1) + [
        message
    ]


def test_group_with_every_field_at_its_bound_fits() -> None:
    wide = "\U0001f511" * 250
    addresses = ("2001:db8:1111:2222:3333:4444:5555:6666",) * 8
    last: dict[str, Any] = {"version": "\U0001f511" * 64, "speaks": Levels(255, 255)}
    members = tuple(
        replace(member(n, wide), addresses=addresses, port=65535, priority=255, eligible=False, sender_id=255, **last)
        for n in range(4096)
    )
    payloads = encode_group(Group(2**53 - 1, MASTER, members, tuple(each.id for each in members)))
    assert len(payloads) <= MAX_PARTS
    assert max(len(payload) for payload in payloads) <= 65535


def test_reader_names_the_type_of_the_unfinished_message() -> None:
    reader = RosterReader()
    assert reader.unfinished is None
    first, *rest = encode_group(group_of(1024))
    reader.receive_group_untrusted(first)
    assert reader.unfinished is PacketType.GROUP
    for payload in rest:
        reader.receive_group_untrusted(payload)
    assert reader.unfinished is None
    reader.receive_handover_untrusted(encode_handover(Handover(member(1), 9, group_of(1024).members))[0])
    assert reader.unfinished is PacketType.HANDOVER


def test_several_messages_are_read_one_after_another() -> None:
    messages = [group_of(700), group_of(2), group_of(700, "other")]
    assert read_group([payload for message in messages for payload in encode_group(message)]) == messages


def test_parts_out_of_order_are_refused() -> None:
    first, second, third, *_ = encode_group(group_of(2000))
    assert "part 2 of" in refused(RosterReader().receive_group_untrusted, second)
    for payloads in ([first, first], [first, third], [first, second, second], [first, second, first]):
        with pytest.raises(BadPacket, match="comes after"):
            read_group(payloads)
    assert "part 1 of" not in refused(RosterReader().receive_group_untrusted, edited(first, part=2, parts=1))


@pytest.mark.parametrize("field", ["term", "master", "parts"])
def test_parts_that_disagree_are_refused(field: str) -> None:
    first, second, *_ = encode_group(group_of(2000))
    other = {"term": 10, "master": "f" * 32, "parts": 100}[field]
    with pytest.raises(BadPacket, match="disagree"):
        read_group([first, edited(second, **{field: other})])
    first, second, *_ = encode_handover(Handover(member(1), 9, group_of(2000).members))
    reader = RosterReader()
    reader.receive_handover_untrusted(first)
    changed = edited(second, **{field: {"term": 10, "master": json.loads(second)["members"][0], "parts": 100}[field]})
    assert "disagree" in refused(reader.receive_handover_untrusted, changed)


def test_node_listed_twice_is_refused() -> None:
    (payload,) = encode_group(group_of(2))
    listed = json.loads(payload)
    twice = {"members": listed["members"] * 2}, {"succession": listed["succession"] * 2}
    for fields in twice:
        assert "twice" in refused(RosterReader().receive_group_untrusted, edited(payload, **fields))
    reader = RosterReader()
    reader.receive_group_untrusted(edited(payload, parts=2))
    assert "twice" in refused(reader.receive_group_untrusted, edited(payload, part=2, parts=2))


def test_more_members_than_allowed_are_refused_as_they_come() -> None:
    payloads = encode_group(Group(9, MASTER, group_of(4096).members, ()))
    more = json.loads(encode_group(Group(9, MASTER, (member(5000),), ()))[0])["members"]
    payloads = [edited(payload, parts=len(payloads) + 1) for payload in payloads]
    reader = RosterReader()
    for payload in payloads:
        assert reader.receive_group_untrusted(payload) is None
    last = edited(payloads[0], part=len(payloads) + 1, parts=len(payloads) + 1, members=more)
    assert "more than 4096" in refused(reader.receive_group_untrusted, last)


def test_endless_succession_is_refused_as_it_comes() -> None:
    reader = RosterReader()
    for part in range(1, 3):
        ids = [f"{part:02x}{n:030x}" for n in range(1500)]
        fields = {"term": 1, "master": MASTER, "part": part, "parts": 128, "members": [], "succession": ids}
        fields["times"] = {"heartbeat_interval": 0.5, "dead_after": 1.5}
        assert reader.receive_group_untrusted(json.dumps(fields).encode()) is None
    fields["part"], fields["succession"] = 3, [f"03{n:030x}" for n in range(1500)]
    assert "more than 4096" in refused(reader.receive_group_untrusted, json.dumps(fields).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"part": 0},
        {"part": True},
        {"parts": 0},
        {"parts": MAX_PARTS + 1},
        {"part": "1"},
        {"term": -1},
        {"term": 2**53},
        {"master": "X"},
        {"master": None},
        {"members": None},
        {"members": {}},
        {"members": [None]},
        {"members": [{}]},
    ],
    ids=str,
)
def test_value_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    (group,) = encode_group(group_of(1))
    (handover,) = encode_handover(Handover(member(1), 9))
    refused(RosterReader().receive_group_untrusted, edited(group, **fields))
    refused(RosterReader().receive_handover_untrusted, edited(handover, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"succession": ["x"]},
        {"succession": [1]},
        {"succession": "0" * 32},
        {"level": 0},
        {"level": 256},
        {"level": None},
        {"level": True},
        {"key_age": -1},
        {"key_age": 2**31},
        {"key_age": 1.5},
        {"key_age": None},
    ],
    ids=str,
)
def test_value_of_a_group_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    (group,) = encode_group(group_of(1))
    refused(RosterReader().receive_group_untrusted, edited(group, **fields))


@pytest.mark.parametrize("field", ["term", "master", "part", "parts", "members", "succession"])
def test_missing_field_is_refused(field: str) -> None:
    left = json.loads(encode_group(group_of(1))[0])
    del left[field]
    assert field in refused(RosterReader().receive_group_untrusted, json.dumps(left).encode())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_only_bad_packet(data: st.DataObject) -> None:
    payload = bytearray(encode_group(group_of(2))[0])
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    accepts_or_bad_packet(RosterReader().receive_group_untrusted, bytes(payload))
    accepts_or_bad_packet(RosterReader().receive_handover_untrusted, bytes(payload))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Group(9, MASTER, (member(1), member(1)), ()), "twice among the members"),
        (Group(9, MASTER, (), (MASTER, MASTER)), "twice in the succession"),
        (Group(-1, MASTER, (), ()), "term"),
        (Group(9, "me", (), ()), "master"),
        (Group(9, MASTER, group_of(4097).members, ()), "members"),
        (Group(9, MASTER, (), (), key_age=2**31), "key_age"),
    ],
    ids=["members", "succession", "term", "master", "too many", "key_age"],
)
def test_value_out_of_bounds_has_no_encoding(message: Group, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode_group(message)


def packets(base: type[Packet] = Packet) -> Iterator[type[Packet]]:
    for packet in base.__subclasses__():
        yield packet
        yield from packets(packet)


def test_reading_of_every_list_stops_at_its_first_bad_item() -> None:
    lists = [
        (packet.__name__, name, field.metadata)
        for packet in packets()
        for name, field in packet.model_fields.items()
        if str(field.annotation).startswith(("tuple", "list"))
    ]
    assert len(lists) >= 5, "addresses, held keys, members twice, and the succession"
    for packet, name, metadata in lists:
        assert any(isinstance(item, FailFast) for item in metadata), f"{packet}.{name}"


@pytest.mark.parametrize("item", [b"{}", b"0", b"[]", b'{"id":{}}'])
def test_junk_costs_less_than_30_times_as_much_as_proper_members(item: bytes) -> None:
    """Once, each item cost an error of its own: a hundred times the cost of the same bytes of proper members."""
    (proper,) = encode_group(group_of(240))
    fields = edited(proper, members=[], succession=[])
    junk = fields.replace(
        b'"members": []', b'"members": [' + b",".join([item] * (len(proper) // (len(item) + 1))) + b"]"
    )
    assert len(proper) * 0.9 < len(junk) <= MAX_PAYLOAD

    def cost(payload: bytes) -> float:
        began = time.process_time()
        accepts_or_bad_packet(RosterReader().receive_group_untrusted, payload)
        return time.process_time() - began

    assert min(cost(junk) for _ in range(5)) < 30 * min(cost(proper) for _ in range(5))


def test_unknown_fields_are_ignored() -> None:
    group, handover = group_of(3), Handover(member(1), 9, (member(2),))
    (later,) = encode_group(group)
    fields = json.loads(later)
    fields["members"] = [{**each, "later": {"a": [1]}} for each in fields["members"]]
    read = RosterReader().receive_group_untrusted(json.dumps({"later": None, **fields}).encode())
    assert read == group
    (later,) = encode_handover(handover)
    assert RosterReader().receive_handover_untrusted(edited(later, later=[{}])) == handover


def test_group_of_a_node_that_states_no_age_of_its_key_has_age_0() -> None:
    fields = json.loads(encode_group(replace(group_of(1), key_age=99))[0])
    del fields["key_age"]
    assert read_group([json.dumps(fields).encode()]) == [replace(group_of(1), key_age=0)]


def test_group_and_member_without_a_level_have_level_1() -> None:
    group = replace(group_of(1), level=2, members=(replace(member(1), speaks=Levels(2, 3), version="1.2"),))
    fields = json.loads(encode_group(group)[0])
    del fields["level"], fields["members"][0]["speaks"], fields["members"][0]["version"]
    read = RosterReader().receive_group_untrusted(json.dumps(fields).encode())
    assert read is not None
    assert (read.level, read.members[0].speaks, read.members[0].version) == (1, Levels(1, 1), "")
