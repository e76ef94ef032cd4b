"""JSON values as typed ones: only the types of a NamedTuple's fields are accepted."""

import json
from typing import Any, NamedTuple

import pytest

from pskkey.errors import BadPacket
from pskkey.tools.ctl.typed_json import read_untrusted


class Inner(NamedTuple):
    """An object in another one."""

    number: int
    text: str | None = None


class Outer(NamedTuple):
    """A field of every kind."""

    flag: bool
    real: float
    inner: Inner | None
    inners: tuple[Inner, ...]
    counts: dict[str, int]


RIGHT: dict[str, Any] = {
    "flag": True,
    "real": 1,
    "inner": {"number": 2, "text": "a", "later": [1]},
    "inners": [{"number": 3}],
    "counts": {"a": 4},
}


def test_object_becomes_a_named_tuple_with_its_values() -> None:
    read = read_untrusted(Outer, RIGHT)
    assert read == Outer(True, 1.0, Inner(2, "a"), (Inner(3),), {"a": 4})
    assert type(read.real) is float
    assert read_untrusted(Outer, {**RIGHT, "inner": None}).inner is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("flag", 1, "flag is not true or false"),
        ("real", True, "real is not a number"),
        ("real", "1", "real is not a number"),
        ("real", 10**400, "real is not a number"),
        ("inner", [], "inner is not an object"),
        ("inner", {"number": True}, "inner.number is not an integer"),
        ("inner", {"number": 1.0}, "inner.number is not an integer"),
        ("inner", {"number": None}, "inner.number is not an integer"),
        ("inner", {"number": 1, "text": 2}, "inner.text is not text"),
        ("inner", {"text": "a"}, "inner.number is missing"),
        ("inners", {}, "inners is not a list"),
        ("inners", [{"number": 1}, 2], "inners.1 is not an object"),
        ("counts", [], "counts is not an object"),
        ("counts", {"a\x1b[1m": "4"}, r"counts.a\x1b[1m is not an integer"),
    ],
)
def test_value_of_another_type_is_refused_with_its_place(name: str, value: object, message: str) -> None:
    with pytest.raises(BadPacket) as refused:
        read_untrusted(Outer, {**RIGHT, name: value})
    assert str(refused.value) == message


@pytest.mark.parametrize("name", RIGHT)
def test_missing_field_without_a_default_is_refused(name: str) -> None:
    with pytest.raises(BadPacket, match=f"^{name} is missing$"):
        read_untrusted(Outer, {other: value for other, value in RIGHT.items() if other != name})


def test_long_place_is_cut_in_the_message() -> None:
    with pytest.raises(BadPacket) as refused:
        read_untrusted(Outer, json.loads(json.dumps({**RIGHT, "counts": {"x" * 10_000: None}})))
    assert len(str(refused.value)) < 100
