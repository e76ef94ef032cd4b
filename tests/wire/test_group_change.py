"""GROUP_CHANGE: what has changed in a group, in few bytes, cut and joined like GROUP."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.model import Group, GroupChange, Levels, Member, Times
from pskkey.wire.frame import MAX_PAYLOAD, PacketType
from pskkey.wire.roster import MAX_PARTS, RosterReader, encode_group, encode_group_change
from tests.wire.messages import accepts_or_bad_packet, group_changes, member, refused

MASTER = f"{1:032x}"
FINGERPRINT = "00112233445566ff"
ONE = GroupChange(9, 7, 6, members=(member(3),))
TIMES = Times(0.5, 1.5)


def change_of(count: int, left: int = 0, name: str | None = None) -> GroupChange:
    """Return a change to a map of `count` members, without `left` others."""
    members = tuple(member(n, name) for n in range(1, count + 1))
    gone = tuple(f"{n:032x}" for n in range(count + 1, count + left + 1))
    return GroupChange(9, 2, 1, master=MASTER, members=members, left=gone, times=TIMES, level=1)


def read(payloads: list[bytes]) -> list[GroupChange]:
    reader = RosterReader()
    messages = [reader.receive_change_untrusted(payload) for payload in payloads]
    return [message for message in messages if message is not None]


def edited(payload: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(payload), **fields}).encode()


def test_golden_json_has_no_field_with_its_default() -> None:
    (payload,) = encode_group_change(ONE)
    assert json.loads(payload) == {
        "term": 9,
        "number": 7,
        "base": 6,
        "members": [
            {
                "id": f"{3:032x}",
                "name": "node-3",
                "addresses": ["10.0.0.1", "fe80::1"],
                "sender_id": 3,
                "acked_epoch": 7,
            }
        ],
    }
    assert encode_group_change(GroupChange(9, 8, 7, left=(MASTER,))) == [
        b'{"term":9,"number":8,"base":7,"left":["' + MASTER.encode() + b'"]}'
    ]


def test_golden_json_has_every_field_with_another_value() -> None:
    other = Member(MASTER, "n", ("10.0.0.1",), 4711, 7, False, 0, 65535, "0.2.0", Levels(1, 2))
    senders = frozenset({0, 9, 255})
    known: dict[str, Any] = {"key_age": 86400, "known_outside": FINGERPRINT, "has_keys": True}
    message = GroupChange(9, 8, 7, FINGERPRINT, MASTER, (other,), ("f" * 8,), Times(0.25, 2.0), 2, senders, **known)
    (payload,) = encode_group_change(message)
    assert json.loads(payload) == {
        "term": 9,
        "number": 8,
        "base": 7,
        "knows": FINGERPRINT,
        "master": MASTER,
        "members": [
            {
                "id": MASTER,
                "name": "n",
                "addresses": ["10.0.0.1"],
                "port": 4711,
                "priority": 7,
                "eligible": False,
                "sender_id": 0,
                "acked_epoch": 65535,
                "version": "0.2.0",
                "speaks": [1, 2],
            }
        ],
        "left": ["f" * 8],
        "times": {"heartbeat_interval": 0.25, "dead_after": 2.0},
        "level": 2,
        "senders": "0102" + "00" * 29 + "80",
        **known,
    }


@settings(max_examples=100, deadline=None)
@given(group_changes)
def test_round_trip(message: GroupChange) -> None:
    assert read(encode_group_change(message)) == [message]


# --- the size ---------------------------------------------------------------------------------------------------------


def on_a_network(number: int) -> Member:
    """Return a member with a random id, a usual name, its two addresses and its version."""
    addresses = (f"10.0.12.{number % 256}", f"fe80::5054:ff:fe12:{number:x}")
    node = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 2
    return Member(node, f"pump-{number:03}", addresses, 11111, sender_id=number % 256, version="0.1.0")


def size(message: GroupChange) -> int:
    return sum(map(len, encode_group_change(message)))


def test_member_that_comes_costs_at_most_200_bytes_and_one_that_goes_at_most_90() -> None:
    comes = GroupChange(12, 12345, 12344, members=(on_a_network(200),))
    assert size(comes) <= 200
    assert size(GroupChange(12, 12345, 12344, left=(on_a_network(200).id,))) <= 90
    # A sender id that is free again, or of a node that is not in the map yet, costs the bitmap of the ids.
    assert size(replace(comes, senders=frozenset(range(201)))) <= size(comes) + 80


@pytest.mark.parametrize("count", [10, 50, 100, 250])
def test_whole_map_costs_at_most_150_bytes_for_each_member(count: int) -> None:
    members = tuple(map(on_a_network, range(count)))
    master = members[0].id
    whole = GroupChange(12, 1, 0, "", master, members, (), TIMES, 1, None, 86400, has_keys=True)
    assert size(whole) <= 150 * count + 150
    group = Group(12, master, members, tuple(each.id for each in members))
    assert size(whole) < 0.7 * sum(map(len, encode_group(group)))


def test_change_to_the_map_that_the_receiver_knows_costs_the_same_for_any_group() -> None:
    lost = GroupChange(13, 1, 0, FINGERPRINT, MASTER, (), (on_a_network(1).id,), key_age=86400, has_keys=True)
    assert size(lost) <= 200


# --- several frames ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "left"), [(0, 0), (1, 0), (0, 1), (250, 250), (700, 3), (1, 2000), (0, 4096), (1024, 0), (4096, 4096)]
)
def test_change_of_any_size_is_cut_and_joined(count: int, left: int) -> None:
    message = change_of(count, left)
    payloads = encode_group_change(message)
    assert max(map(len, payloads)) <= MAX_PAYLOAD
    assert read(payloads) == [message]
    # The shares are packed: no more frames than one above what the bytes need.
    assert len(payloads) <= sum(map(len, payloads)) // MAX_PAYLOAD + 2


@pytest.mark.parametrize("kind", ["members", "left", "both"])
def test_each_frame_fits_however_the_items_fill_it(kind: str) -> None:
    """The names of the two lists need bytes too, which a part without items does not show."""
    for length in range(1, 27):
        members = tuple(member(n, "n" * length) for n in range(620)) if kind != "left" else ()
        left = tuple(f"{n:08x}" + "0" * (12 + length % 13) for n in range(4096)) if kind != "members" else ()
        message = GroupChange(9, 10 ** (length % 16), members=members, left=left)
        payloads = encode_group_change(message)
        assert len(payloads) > 1
        assert max(map(len, payloads)) <= MAX_PAYLOAD


def test_change_with_every_field_at_its_bound_fits() -> None:
    wide = "\U0001f511" * 250
    addresses = ("2001:db8:1111:2222:3333:4444:5555:6666",) * 8
    last: dict[str, Any] = {"version": "\U0001f511" * 64, "speaks": Levels(255, 255), "acked_epoch": 65535}
    members = tuple(
        replace(member(n, wide), addresses=addresses, port=65535, priority=255, eligible=False, sender_id=255, **last)
        for n in range(4096)
    )
    left = tuple(f"f{n:031x}" for n in range(4096))
    number = 2**53 - 1
    known: dict[str, Any] = {"key_age": 2**31 - 1, "known_outside": FINGERPRINT, "has_keys": True}
    every = frozenset(range(256))
    message = GroupChange(
        number, number, number, FINGERPRINT, MASTER, members, left, Times(0.05, 300), 255, every, **known
    )
    payloads = encode_group_change(message)
    assert len(payloads) <= MAX_PARTS
    assert max(map(len, payloads)) <= MAX_PAYLOAD
    assert read(payloads) == [message]


def test_reader_names_the_type_of_the_unfinished_message() -> None:
    reader = RosterReader()
    first, *rest = encode_group_change(change_of(1024))
    reader.receive_change_untrusted(first)
    assert reader.unfinished is PacketType.GROUP_CHANGE
    for payload in rest:
        reader.receive_change_untrusted(payload)
    assert reader.unfinished is None


def test_several_changes_are_read_one_after_another() -> None:
    messages = [change_of(700), ONE, change_of(3, 2500), change_of(700, name="other")]
    assert read([payload for message in messages for payload in encode_group_change(message)]) == messages


def test_parts_out_of_order_are_refused() -> None:
    first, second, third, *_ = encode_group_change(change_of(2000))
    assert "part 2 of" in refused(RosterReader().receive_change_untrusted, second)
    for payloads in ([first, first], [first, third], [first, second, second], [first, second, first]):
        with pytest.raises(BadPacket, match="comes after"):
            read(payloads)
    assert "part 2 of 1" in refused(RosterReader().receive_change_untrusted, edited(first, part=2, parts=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"term": 10},
        {"master": "f" * 32},
        {"parts": 100},
        {"number": 3},
        {"base": 2},
        {"knows": FINGERPRINT},
        {"times": {"heartbeat_interval": 0.5, "dead_after": 2.0}},
        {"level": 2},
        {"senders": "00" * 32},
        {"key_age": 1},
        {"known_outside": FINGERPRINT},
        {"has_keys": True},
    ],
    ids=str,
)
def test_parts_that_disagree_are_refused(fields: dict[str, Any]) -> None:
    first, second, *_ = encode_group_change(change_of(2000))
    with pytest.raises(BadPacket, match="disagree"):
        read([first, edited(second, **fields)])


def test_node_listed_twice_is_refused() -> None:
    (payload,) = encode_group_change(change_of(2, 2))
    listed = json.loads(payload)
    for fields in ({"members": listed["members"] * 2}, {"left": listed["left"] * 2}):
        assert "twice" in refused(RosterReader().receive_change_untrusted, edited(payload, **fields))
    for name in ("members", "left"):
        reader = RosterReader()
        reader.receive_change_untrusted(edited(payload, parts=2))
        again = {"members": [], "left": [], name: listed[name], "part": 2, "parts": 2}
        assert "twice" in refused(reader.receive_change_untrusted, edited(payload, **again))


def test_more_nodes_than_allowed_are_refused_as_they_come() -> None:
    whole = encode_group_change(change_of(4096, 4096))
    payloads = [edited(payload, parts=len(whole) + 1) for payload in whole]
    last = {"part": len(whole) + 1, "parts": len(whole) + 1}
    more = json.loads(encode_group_change(GroupChange(9, 1, members=(member(9000),)))[0])["members"]
    for fields in ({"members": more, "left": []}, {"members": [], "left": [f"{9000:032x}"]}):
        reader = RosterReader()
        for payload in payloads:
            assert reader.receive_change_untrusted(payload) is None
        assert "more than 4096" in refused(reader.receive_change_untrusted, edited(payloads[0], **last, **fields))


# --- bounds -----------------------------------------------------------------------------------------------------------

NUMBERS = [-1, 2**53, 1.0, True, "1", None]
MEMBER = json.loads(encode_group_change(ONE)[0])["members"][0]
BOUNDS: dict[str, list[Any]] = {
    "term": [*NUMBERS, ...],
    "number": [*NUMBERS, ...],
    "base": NUMBERS,
    "knows": ["0" * 15, "0" * 17, "0" * 15 + "G", "0" * 15 + "A", "0" * 16 + "\n", None, 0, False],
    "master": ["", "x", "0" * 33, "ABCDEF01", "01234567\n", 1, []],
    "part": [0, MAX_PARTS + 1, True, "1", None],
    "parts": [0, MAX_PARTS + 1, True, "1", None],
    "members": [None, {}, "", [None], [{}], [[]], [1]],
    "left": [None, {}, "0" * 32, [None], [1], ["x"], ["0" * 33], ["0123456G"]],
    "times": [
        [],
        {},
        1.5,
        {"heartbeat_interval": 0.04, "dead_after": 1.5},
        {"heartbeat_interval": 1, "dead_after": 301},
    ],
    "level": [0, 256, True, "1", 1.5],
    "senders": ["", "0" * 63, "0" * 65, "0" * 63 + "g", "A" * 64, "0" * 64 + "\n", 0, [], "\u0660" * 64],
    "key_age": [-1, 2**31, 1.5, None, True],
    "known_outside": ["0" * 15, "0" * 17, "0" * 16 + "\n", None, 0],
    "has_keys": [0, 1, "true", None, []],
}
BOUNDS_OF_A_MEMBER: dict[str, list[Any]] = {
    "id": ["", "x", "0" * 33, None, ...],
    "name": ["", "x" * 251, "a\nb", "\u202e", None, ...],
    "addresses": [None, "10.0.0.1", ["host"], ["224.0.0.1"], ["10.0.0.1"] * 9, ...],
    "port": [0, 65536, "11111", True, None],
    "priority": [-1, 256, "1", 1.5, None],
    "eligible": [0, 1, "true", None],
    "sender_id": [-1, 256, "4", True],
    "acked_epoch": [0, 65536, "7", True],
    "version": ["x" * 65, "a\nb", 1, None],
    "speaks": [[0, 1], [2, 1], [1, 256], [1], "12", None],
}


def changed(value: dict[str, Any], name: str, new: Any) -> dict[str, Any]:
    """Return `value` with another field, or without the field if `new` is `...`."""
    return {key: each for key, each in {**value, name: new}.items() if each is not ...}


@pytest.mark.parametrize(
    ("name", "new"), [(name, new) for name, news in BOUNDS.items() for new in news], ids=lambda part: ascii(part)[:40]
)
def test_value_out_of_bounds_is_refused(name: str, new: Any) -> None:
    (payload,) = encode_group_change(ONE)
    sentence = refused(
        RosterReader().receive_change_untrusted, json.dumps(changed(json.loads(payload), name, new)).encode()
    )
    assert len(sentence) < 400
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("name", "new"),
    [(name, new) for name, news in BOUNDS_OF_A_MEMBER.items() for new in news],
    ids=lambda part: ascii(part)[:40],
)
def test_value_of_a_member_out_of_bounds_is_refused(name: str, new: Any) -> None:
    (payload,) = encode_group_change(ONE)
    refused(RosterReader().receive_change_untrusted, edited(payload, members=[changed(MEMBER, name, new)]))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"members": (member(1), member(1))}, "twice among the members"),
        ({"left": (MASTER, MASTER)}, "twice among those"),
        ({"term": -1}, "term"),
        ({"number": -1}, "number"),
        ({"number": 2**53}, "number"),
        ({"base": 2**53}, "base"),
        ({"knows": "x"}, "knows"),
        ({"master": "me"}, "master"),
        ({"members": change_of(4097).members}, "members"),
        ({"left": change_of(0, 4097).left}, "left"),
        ({"left": ("x",)}, "left"),
        ({"times": Times(0.0, 1.5)}, "heartbeat_interval"),
        ({"level": 0}, "level"),
        ({"senders": frozenset({256})}, "sender id"),
        ({"key_age": 2**31}, "key_age"),
        ({"known_outside": "x"}, "known_outside"),
        ({"members": (replace(member(1), name=""),)}, "name"),
    ],
    ids=lambda part: ascii(part)[:40],
)
def test_value_out_of_bounds_has_no_encoding(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode_group_change(replace(ONE, **fields))


def test_unknown_fields_are_ignored() -> None:
    (payload,) = encode_group_change(ONE)
    later = edited(payload, later=[{}], members=[{**MEMBER, "later": {"a": [1]}}])
    assert read([later]) == [ONE]


# --- hostile bytes ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_only_bad_packet(data: st.DataObject) -> None:
    payload = bytearray(encode_group_change(replace(change_of(2, 2), senders=frozenset({3})))[0])
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    accepts_or_bad_packet(RosterReader().receive_change_untrusted, bytes(payload))


@pytest.mark.parametrize("item", [b"{}", b"0", b"[]", b'{"id":{}}'])
@pytest.mark.parametrize("name", [b"members", b"left"])
def test_junk_costs_less_than_30_times_as_much_as_proper_members(item: bytes, name: bytes) -> None:
    (proper,) = encode_group_change(change_of(500))
    head = b'{"term":9,"number":2,"' + name + b'":['
    junk = head + b",".join([item] * ((len(proper) - len(head)) // (len(item) + 1))) + b"]}"
    assert len(proper) * 0.9 < len(junk) <= MAX_PAYLOAD

    def cost(payload: bytes) -> float:
        began = time.process_time()
        accepts_or_bad_packet(RosterReader().receive_change_untrusted, payload)
        return time.process_time() - began

    assert min(cost(junk) for _ in range(5)) < 30 * min(cost(proper) for _ in range(5))
