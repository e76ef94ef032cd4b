"""JOIN, MERGE and ERROR: their JSON, and every bound of every field."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import NoCommonLevel
from pskkey.model import ErrorMessage, HeldKey, Join, Levels, Member, Merge
from pskkey.wire import membership
from tests.wire.messages import accepts_or_bad_packet, error_messages, joins, member, merges, refused

ID = "0123456789abcdef0123456789abcdef"
FINGERPRINT = "00112233445566ff"

MEMBER = {
    "id": ID,
    "name": "pump-3",
    "addresses": ["10.0.0.1", "fe80::1"],
    "port": 11111,
    "priority": 100,
    "eligible": True,
    "sender_id": 4,
    "acked_epoch": None,
}
JOIN = {
    "group": "default",
    "member": MEMBER,
    "incarnation": "5f2c",
    "term": 3,
    "held": [{"epoch": 7, "fingerprint": FINGERPRINT, "send": True}],
    "sender": False,
    "lease": 4,
    "version": "0.1.0",
    "speaks": [1, 3],
    "times": {"heartbeat_interval": 0.5, "dead_after": 1.5},
    "knows": None,
}
MERGE = {"master": MEMBER, "term": 3, "members": 12, "epoch": 7, "winner": None}
MERGE |= {"version": "0.1.0", "speaks": [1, 3]}
ERROR = {"code": "not_master", "message": "I am not the master: ask 10.0.0.2."}

MEMBER_VALUE = Member(ID, "pump-3", ("10.0.0.1", "fe80::1"), 11111, sender_id=4, version="0.1.0", speaks=Levels(1, 3))
DECODERS: list[tuple[dict[str, Any], Callable[[bytes], object]]] = [
    (JOIN, membership.decode_join_untrusted),
    (MERGE, membership.decode_merge_untrusted),
    (ERROR, membership.decode_error_untrusted),
]


def changed(value: dict[str, Any], path: str, new: object) -> bytes:
    """Return JSON of `value` with the field at the dotted `path` replaced, or removed when `new` is `...`."""
    copy = json.loads(json.dumps(value))
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = copy
    for step in way:
        place = place[step]
    if new is ...:
        del place[last]
    else:
        place[last] = new
    return json.dumps(copy).encode()


def test_golden_json() -> None:
    join = Join(
        "default",
        MEMBER_VALUE,
        "5f2c",
        3,
        (HeldKey(7, FINGERPRINT, send=True),),
        sender=False,
        lease=4,
    )
    assert json.loads(membership.encode_join(join)) == JOIN
    assert membership.decode_join_untrusted(json.dumps(JOIN).encode()) == join
    merge = Merge(MEMBER_VALUE, 3, 12, 7)
    assert json.loads(membership.encode_merge(merge)) == MERGE
    assert membership.decode_merge_untrusted(json.dumps(MERGE).encode()) == merge
    error = ErrorMessage("not_master", "I am not the master: ask 10.0.0.2.")
    assert json.loads(membership.encode_error(error)) == ERROR
    assert membership.decode_error_untrusted(json.dumps(ERROR).encode()) == error


def test_node_without_levels_speaks_level_1_only() -> None:
    assert membership.decode_join_untrusted(changed(JOIN, "speaks", ...)).speaks == Levels(1, 1)
    assert membership.decode_merge_untrusted(changed(MERGE, "speaks", ...)).speaks == Levels(1, 1)


def of_a_later_version(value: Any, depth: int = 0) -> Any:
    """Return JSON with an unknown field in each object."""
    if isinstance(value, list):
        return [of_a_later_version(each, depth) for each in value]
    if not isinstance(value, dict):
        return value
    new = {"nested": [{"deep": [None, 1.5, "x"]}], f"field {depth}": "\x1b[2J"}
    return {**new, **{name: of_a_later_version(each, depth + 1) for name, each in value.items()}}


@pytest.mark.parametrize(("value", "decode"), DECODERS, ids=["JOIN", "MERGE", "ERROR"])
def test_unknown_fields_are_ignored_within_the_bounds(value: dict[str, Any], decode: Callable[[bytes], object]) -> None:
    assert decode(json.dumps(of_a_later_version(value)).encode()) == decode(json.dumps(value).encode())
    room = 256 - len(value)
    decode(json.dumps({**value, **{str(n): n for n in range(room)}}).encode())
    refused(decode, json.dumps({**value, **{str(n): n for n in range(room + 1)}}).encode())
    deep: Any = 0
    for _ in range(16):
        deep = [deep]
    refused(decode, json.dumps({**value, "later": deep}).encode())
    refused(decode, b'{"later": 1, "later": 2, ' + json.dumps(value).encode()[1:])


@settings(max_examples=60, deadline=None)
@given(joins)
def test_join_round_trip(message: Join) -> None:
    assert membership.decode_join_untrusted(membership.encode_join(message)) == message


@settings(max_examples=60, deadline=None)
@given(merges)
def test_merge_round_trip(message: Merge) -> None:
    assert membership.decode_merge_untrusted(membership.encode_merge(message)) == message


@settings(max_examples=60, deadline=None)
@given(error_messages)
def test_error_round_trip(message: ErrorMessage) -> None:
    assert membership.decode_error_untrusted(membership.encode_error(message)) == message


TERM_BOUNDS = [-1, 2**53, 10**4000, 1.0, True, "1", None, [], ...]
TEXT_BOUNDS = ["", "x" * 251, "a\nb", "a\x1b[31m", "\u202e", "\u0000", 1, True, None, ["x"], {}, ...]
ID_BOUNDS = ["", "abcdef0", "0" * 33, "ABCDEF01", "0123456g", "01234567\n", " 01234567", 12345678, ...]
FLAG_BOUNDS = [0, 1, "true", "1", None, [], ...]
BOUNDS: dict[str, list[object]] = {
    "group": TEXT_BOUNDS,
    "times": [None, [], {}, 1.5, ...],
    "times.heartbeat_interval": [0, 0.04, 60.1, 1e400, -1, "0.5", True, None, ...],
    "times.dead_after": [0, 0.09, 300.1, 1e400, -1, "1.5", True, None, ...],
    "incarnation": TEXT_BOUNDS,
    "version": ["x" * 65, "a\nb", "\u202e", 1, True, None, ["x"], {}, ...],
    "speaks": [[0, 1], [2, 1], [1, 256], [1], [1, 2, 3], [1.0, 2], ["1", "2"], [True, 1], "12", 1, None, {}],
    "term": TERM_BOUNDS,
    "sender": FLAG_BOUNDS,
    "lease": [-1, 256, "4", 4.0, True, ...],
    "held": [None, {}, "", [[]], [1], [None], ...],
    "knows": ["0" * 15, "0" * 17, "0" * 15 + "G", "0" * 15 + "A", "0" * 16 + "\n", " ", 0, False, [], {}],
    "held.0.epoch": [0, 65536, -1, "7", 7.0, True, None, ...],
    "held.0.fingerprint": ["", "0" * 15, "0" * 17, "0" * 15 + "G", "0" * 15 + "A", "0" * 16 + "\n", 1, ...],
    "held.0.send": FLAG_BOUNDS,
    "member": [None, [], "x", 1, ...],
    "member.id": [*ID_BOUNDS, None],
    "member.name": TEXT_BOUNDS,
    "member.addresses": [None, "10.0.0.1", {"0": "10.0.0.1"}, [1], [None], ["10.0.0.1"] * 9, ...],
    "member.addresses.0": [
        "",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "10.0.0.1/8",
        "host.example",
        "10.0.0.1\u0000",
        " 10.0.0.1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "1:2",
        "fe80::1::2",
        "fe80::1" + "%" + "x" * 60,
        167772161,
    ],
    "member.port": [0, 65536, -1, "11111", 11111.0, True, None, ...],
    "member.priority": [-1, 256, "1", 1.5, None, ...],
    "member.eligible": FLAG_BOUNDS,
    "member.sender_id": [-1, 256, "4", 4.0, True, ...],
    "member.acked_epoch": [0, 65536, "7", True, ...],
}
CASES = [(path, new) for path, news in BOUNDS.items() for new in news]


@pytest.mark.parametrize(("path", "new"), CASES, ids=lambda part: ascii(part)[:40])
def test_join_with_a_value_out_of_bounds_is_refused(path: str, new: object) -> None:
    sentence = refused(membership.decode_join_untrusted, changed(JOIN, path, new))
    assert len(sentence) < 400
    assert sentence.isprintable()


def test_join_of_a_node_that_does_not_read_group_change_names_no_map() -> None:
    assert membership.decode_join_untrusted(changed(JOIN, "knows", ...)).knows is None
    for knows in ("", FINGERPRINT):
        assert membership.decode_join_untrusted(changed(JOIN, "knows", knows)).knows == knows


def test_join_lists_at_most_three_keys() -> None:
    held = JOIN["held"]
    assert isinstance(held, list)
    membership.decode_join_untrusted(changed(JOIN, "held", held * 3))
    refused(membership.decode_join_untrusted, changed(JOIN, "held", held * 4))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("term", -1),
        ("term", ...),
        ("members", -1),
        ("members", 4097),
        ("members", "1"),
        ("epoch", -1),
        ("epoch", 65536),
        ("epoch", ...),
        ("winner", "x"),
        ("winner", 1),
        ("winner", ...),
        ("master", None),
        ("master.id", "x"),
        ("speaks", [2, 1]),
    ],
)
def test_merge_with_a_value_out_of_bounds_is_refused(path: str, new: object) -> None:
    refused(membership.decode_merge_untrusted, changed(MERGE, path, new))


@pytest.mark.parametrize(
    ("path", "new"), [("code", None), ("code", 1), ("code", ...), ("message", None), ("message", ...)], ids=str
)
def test_error_with_a_value_of_another_type_is_refused(path: str, new: object) -> None:
    refused(membership.decode_error_untrusted, changed(ERROR, path, new))


@pytest.mark.parametrize("code", ["", "Not", "1x", "a b", "a" * 65, "a\n", "ä"])
def test_code_of_another_form_keeps_the_sentence_of_an_error(code: str) -> None:
    message = membership.decode_error_untrusted(changed(ERROR, "code", code))
    assert message == ErrorMessage("unknown", str(ERROR["message"]))
    with pytest.raises(ValueError, match="other characters"):
        membership.encode_error(ErrorMessage(code, "x"))


def test_sentence_of_an_error_is_cleaned_and_cut() -> None:
    message = membership.decode_error_untrusted(changed(ERROR, "message", "a\nb\x1b[2J" + "x" * 2000))
    assert message.message == ("a?b?[2J" + "x" * 2000)[:1024]


def of_another_form(path: str, new: object, speaks: object) -> bytes:
    """Return a bad JOIN that names these levels."""
    return changed(json.loads(changed(JOIN, path, new)), "speaks", speaks)


@pytest.mark.parametrize(
    ("path", "new"), [("member.id", "0" * 64), ("held", [{}] * 9), ("lease", ...), ("term", "3"), ("times", 1)], ids=str
)
def test_bad_join_of_a_version_without_a_common_level_names_both_ranges(path: str, new: object) -> None:
    with pytest.raises(NoCommonLevel, match=r"levels 9 to 12 cannot .* protocol level 1:"):
        membership.decode_join_untrusted(of_another_form(path, new, [9, 12]))
    assert "field" in refused(membership.decode_join_untrusted, of_another_form(path, new, [1, 12]))


@pytest.mark.parametrize("speaks", [[9], [9, 12, 3], [12, 9], [0, 0], [9, 10**300], ["9", "12"], None], ids=str)
def test_bad_join_with_bad_levels_is_a_bad_packet(speaks: object) -> None:
    assert "field" in refused(membership.decode_join_untrusted, of_another_form("term", "3", speaks))


def test_bad_merge_of_a_version_without_a_common_level_names_both_ranges() -> None:
    with pytest.raises(NoCommonLevel):
        membership.decode_merge_untrusted(changed({**MERGE, "speaks": [9, 12]}, "term", "3"))


def test_character_that_this_python_does_not_know_is_allowed() -> None:
    """Unicode grows. One name of a newer Python must not make a GROUP unreadable."""
    name = "pump \U0003fffd"
    assert not name.isprintable()
    assert membership.decode_join_untrusted(changed(JOIN, "member.name", name)).member.name == name


def test_a_refusal_shows_no_control_characters_of_a_field_name() -> None:
    payload = changed(JOIN, "held.0.epoch", {"\x1b[2J\n" + "x" * 3000: 1})
    sentence = refused(membership.decode_join_untrusted, payload)
    assert sentence.isprintable()
    assert len(sentence) < 400


def test_an_address_is_made_canonical_and_loses_its_zone() -> None:
    payload = changed(JOIN, "member.addresses", ["FE80:0::1%eth0", "10.0.0.1"])
    assert membership.decode_join_untrusted(payload).member.addresses == ("fe80::1", "10.0.0.1")
    scoped = replace(MEMBER_VALUE, addresses=("fe80::1%eth0",))
    assert json.loads(membership.encode_merge(Merge(scoped, 3, 1, 0)))["master"]["addresses"] == ["fe80::1"]


def test_text_of_an_error_is_made_printable_and_cut() -> None:
    sent = membership.encode_error(ErrorMessage("bad", "line\nline\x1b[0m \ud800" + "\u20ac" * 5000))
    assert len(sent) <= membership.MAX_SIZE
    message = membership.decode_error_untrusted(sent).message
    assert message.startswith("line?line?[0m ?\u20ac")
    assert len(message) == 1024


def test_largest_packet_of_each_type_fits_the_limit() -> None:
    wide, version = "\U0001f511" * 250, "\U0001f511" * 64
    addresses = ("2001:db8:1111:2222:3333:4444:5555:6666",) * 8
    big = Member("f" * 32, wide, addresses, 65535, 255, True, 255, 65535, version, Levels(255, 255))
    held = (HeldKey(65535, FINGERPRINT, send=True),) * 3
    join = membership.encode_join(Join(wide, big, wide, 2**53 - 1, held, sender=False, lease=None, knows=FINGERPRINT))
    merge = membership.encode_merge(Merge(big, 2**53 - 1, 4096, 65535, "f" * 32))
    error = membership.encode_error(ErrorMessage("a" * 64, "\U0001f511" * 1024))
    quoted = membership.encode_error(ErrorMessage("a" * 64, '"' * 1024))
    assert max(len(join), len(merge), len(error), len(quoted)) <= membership.MAX_SIZE


@pytest.mark.parametrize(
    "bad",
    [
        replace(MEMBER_VALUE, id="X"),
        replace(MEMBER_VALUE, name=""),
        replace(MEMBER_VALUE, name="\ud800"),
        replace(MEMBER_VALUE, port=0),
        replace(MEMBER_VALUE, addresses=("localhost",)),
        replace(MEMBER_VALUE, acked_epoch=0),
    ],
    ids=lambda bad: ascii(bad)[:60],
)
def test_value_out_of_bounds_has_no_encoding(bad: Member) -> None:
    with pytest.raises(ValueError, match=r".+"):
        membership.encode_merge(Merge(bad, 3, 1, 0))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DECODERS), st.data())
def test_damaged_bytes_raise_only_bad_packet(
    case: tuple[dict[str, Any], Callable[[bytes], object]], data: st.DataObject
) -> None:
    sample, decode = case
    payload = bytearray(json.dumps(sample).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    accepts_or_bad_packet(decode, bytes(payload))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DECODERS), st.data())
def test_wrong_types_raise_only_bad_packet(
    case: tuple[dict[str, Any], Callable[[bytes], object]], data: st.DataObject
) -> None:
    sample, decode = case
    field = data.draw(st.sampled_from(sorted(sample)))
    accepts_or_bad_packet(decode, changed(sample, field, data.draw(json_values)))


def test_member_as_the_core_makes_it_is_accepted() -> None:
    merge = Merge(member(1), 1, 1, 0)
    assert membership.decode_merge_untrusted(membership.encode_merge(merge)) == merge
