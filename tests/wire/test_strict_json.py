"""JSON that could exhaust its reader, or that two readers would understand differently."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.wire.strict_json import MAX_DEPTH, MAX_NAMES, decode_object_untrusted, encode_object
from tests.wire.messages import accepts_or_bad_packet, refused

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)


def nested(depth: int) -> bytes:
    """Return an object with lists in it, `depth` deep in all."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


BOMBS = {
    "deep lists": nested(30_000),
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "unclosed": b'{"a":' + b"[" * 60_000,
    "one too deep": nested(MAX_DEPTH + 1),
    "too many names": json.dumps(dict.fromkeys(map(str, range(MAX_NAMES + 1)))).encode(),
    "huge integer": b'{"a":' + b"9" * 60_000 + b"}",
    "huge exponent": b'{"a":1e999999}',
    "negative infinity by exponent": b'{"a":-1e999999}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus Infinity": b'{"a":-Infinity}',
    "repeated name": b'{"a":1,"a":1}',
    "repeated name, spelled otherwise": b'{"a":1,"\\u0061":1}',
    "repeated name inside": b'{"a":[{"b":1,"b":2}]}',
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":"\\udc00"}',
    "surrogates in the wrong order": b'{"a":"\\udc00\\ud800"}',
    "lone surrogate in a name": b'{"\\ud800":1}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "no UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'{"a":"\xc0\x80"}',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "raw control character": b'{"a":"\x00"}',
    "trailing text": b'{"a":1}x',
    "two objects": b"{}{}",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1/**/}',
    "leading zero": b'{"a":01}',
    "list": b"[]",
    "string": b'"a"',
    "number": b"1",
    "null": b"null",
    "empty": b"",
    "space": b"  ",
}


@pytest.mark.parametrize("name", BOMBS)
def test_dangerous_or_ambiguous_text_is_refused(name: str) -> None:
    sentence = refused(decode_object_untrusted, BOMBS[name])
    assert len(sentence) < 100


def test_deepest_allowed_nesting_is_read() -> None:
    assert decode_object_untrusted(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert decode_object_untrusted(b'{"a":"\\ud83d\\udd11"}') == {"a": "\U0001f511"}


def test_the_refusal_repeats_nothing_of_the_text() -> None:
    with pytest.raises(BadPacket) as caught:
        decode_object_untrusted(b'{"password": hunter2}')
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, values, max_size=4))
def test_round_trip(value: dict[str, Any]) -> None:
    encoded = encode_object(value)
    assert decode_object_untrusted(encoded) == value
    assert b"\n" not in encoded
    assert b"\0" not in encoded


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]",:\\u0d8aeE1.-+ntrf\n'), max_size=40).map(str.encode))
def test_arbitrary_bytes_raise_only_bad_packet(data: bytes) -> None:
    accepts_or_bad_packet(decode_object_untrusted, data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_value_without_an_encoding_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode_object({"a": value})


def test_largest_allowed_number_of_names_is_read() -> None:
    value = dict.fromkeys(map(str, range(MAX_NAMES)))
    assert decode_object_untrusted(encode_object(value)) == value
