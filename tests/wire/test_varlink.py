"""Varlink: framing by NUL, the forms of calls and replies, and interface descriptions that are well formed."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.wire import varlink
from pskkey.wire.control_interface import (
    CONTROL_DESCRIPTION,
    CONTROL_INTERFACE,
    SERVICE_DESCRIPTION,
    SERVICE_INTERFACE,
)
from pskkey.wire.varlink import (
    Call,
    Reply,
    VarlinkReader,
    decode_call_untrusted,
    encode_reply,
)
from tests.wire.messages import accepts_or_bad_packet, refused

names = st.from_regex(r"\A[a-z]{1,5}(\.[a-z][a-z0-9]{0,5}){1,3}\.[A-Z][A-Za-z0-9]{0,8}\Z")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
parameters = st.dictionaries(
    text, st.none() | st.booleans() | st.integers() | text | st.lists(text, max_size=3), max_size=4
)
calls = st.fixed_dictionaries(
    {"method": names},
    optional={"parameters": parameters, "more": st.booleans(), "oneway": st.booleans(), "upgrade": st.booleans()},
)
replies = st.builds(Reply, parameters=parameters, continues=st.booleans(), error=st.none() | names)


def test_golden_bytes() -> None:
    assert encode_reply(Reply()) == b"{}\0"
    assert encode_reply(Reply(parameters={"a": 1}, continues=True)) == b'{"parameters":{"a":1},"continues":true}\0'
    assert (
        encode_reply(varlink.method_not_found("io.pskkey.Control.X"))
        == b'{"parameters":{"method":"io.pskkey.Control.X"},"error":"org.varlink.service.MethodNotFound"}\0'
    )


@settings(max_examples=60, deadline=None)
@given(calls)
def test_call_has_the_values_of_its_fields(fields: dict[str, Any]) -> None:
    (message,) = VarlinkReader().receive_untrusted(json.dumps(fields).encode() + b"\0")
    call = decode_call_untrusted(message)
    assert {name: getattr(call, name) for name in fields} == fields
    defaults = {"parameters": {}, "more": False, "oneway": False, "upgrade": False}
    assert call.model_dump() == {**defaults, **fields}


@settings(max_examples=60, deadline=None)
@given(replies)
def test_reply_has_only_fields_that_are_not_empty(reply: Reply) -> None:
    encoded = encode_reply(reply)
    assert encoded.endswith(b"\0")
    assert b"\0" not in encoded[:-1]
    fields = json.loads(encoded[:-1])
    assert all(fields.values())
    assert Reply(**fields) == reply


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60).map(lambda data: data.replace(b"1", b"\0")), st.lists(st.integers(0, 60), max_size=5))
def test_any_pieces_give_the_same_messages(stream: bytes, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    expected = stream.split(b"\0")[:-1]
    by_pieces, by_byte = VarlinkReader(), VarlinkReader()
    assert VarlinkReader().receive_untrusted(stream) == expected
    pieces = [stream[a:b] for a, b in pairwise(borders)]
    assert [message for piece in pieces for message in by_pieces.receive_untrusted(piece)] == expected
    assert [message for octet in stream for message in by_byte.receive_untrusted(bytes([octet]))] == expected


@pytest.mark.parametrize("pieces", [[b"x"] * 11, [b"x" * 5] * 2 + [b"x"], [b"x" * 11]], ids=len)
def test_a_message_that_is_too_long_is_refused_before_it_ends(pieces: list[bytes]) -> None:
    reader = VarlinkReader(limit=10)
    assert reader.receive_untrusted(b"x" * 10 + b"\0" + b"y" * 10 + b"\0") == [b"x" * 10, b"y" * 10]
    for piece in pieces[:-1]:
        assert reader.receive_untrusted(piece) == []
    with pytest.raises(BadPacket, match="longer than 10"):
        reader.receive_untrusted(pieces[-1])
    with pytest.raises(BadPacket, match="given up"):
        reader.receive_untrusted(b"{}\0")


def test_a_complete_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadPacket, match="longer than 10"):
        VarlinkReader(limit=10).receive_untrusted(b"x" * 11 + b"\0")


@pytest.mark.parametrize("parameters", [None, {}])
def test_null_means_the_same_as_a_missing_field(parameters: dict[str, Any] | None) -> None:
    message = json.dumps({"method": "a.b.C", "parameters": parameters, "more": None}).encode()
    assert decode_call_untrusted(message) == Call(method="a.b.C")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"method": None},
        {"method": 1},
        {"method": ""},
        {"method": "GetInfo"},
        {"method": "org.GetInfo."},
        {"method": "org..service.GetInfo"},
        {"method": "org.varlink.service.getInfo"},
        {"method": "org.varlink.service.Get Info"},
        {"method": "org.varlink.service.GetInfo\n"},
        {"method": "a." * 200 + "B"},
        {"method": "a.b.C", "parameters": []},
        {"method": "a.b.C", "parameters": "x"},
        {"method": "a.b.C", "more": 1},
        {"method": "a.b.C", "oneway": "true"},
        {"method": "a.b.C", "extra": True},
    ],
    ids=lambda message: repr(message)[:60],
)
def test_malformed_call_is_refused(message: dict[str, Any]) -> None:
    sentence = refused(decode_call_untrusted, json.dumps(message).encode())
    assert sentence.isprintable()
    assert len(sentence) < 300


def test_call_with_dangerous_parameters_is_refused() -> None:
    for value in (b"[" * 30_000 + b"]" * 30_000, b"9" * 6000, b"NaN", b"1e999", b'"\\ud800"', b'{"b":1,"b":2}'):
        refused(decode_call_untrusted, b'{"method":"a.b.C","parameters":{"a":' + value + b"}}")


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=60) | parameters.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_raise_only_bad_packet(data: bytes) -> None:
    accepts_or_bad_packet(decode_call_untrusted, data)


@settings(max_examples=80, deadline=None)
@given(calls, st.data())
def test_damaged_calls_raise_only_bad_packet(fields: dict[str, Any], data: st.DataObject) -> None:
    message = bytearray(json.dumps(fields).encode())
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    accepts_or_bad_packet(decode_call_untrusted, bytes(message))


def test_the_errors_of_the_service_are_those_of_its_description() -> None:
    made = [
        varlink.interface_not_found("a.b"),
        varlink.method_not_found("a.b.C"),
        varlink.method_not_implemented("a.b.C"),
        varlink.invalid_parameter("node"),
        varlink.permission_denied(),
    ]
    described = dict(re.findall(r"^error (\w+) \((?:(\w+): string)?\)$", SERVICE_DESCRIPTION, re.MULTILINE))
    assert described.keys() - {"ExpectedMore"} == {(reply.error or "").rpartition(".")[2] for reply in made}
    for reply in made:
        assert reply.error is not None
        interface, _, name = reply.error.rpartition(".")
        assert interface == SERVICE_INTERFACE
        assert list(reply.parameters) == [described[name]] * bool(described[name])


FIELD = r"[A-Za-z](?:_?[A-Za-z0-9])*"
TOKEN = re.compile(rf"\s+|#[^\n]*\n|->|\[string\]|\[\]|[?():,]|{FIELD}(?:\.{FIELD})*")


class Description:
    """A reader of Varlink interface descriptions by their published grammar. A deviation raises AssertionError."""

    def __init__(self, source: str) -> None:
        assert "".join(match.group() for match in TOKEN.finditer(source)) == source
        self.tokens = [token for token in TOKEN.findall(source) if token.strip() and not token.startswith("#")]
        self.used: set[str] = set()
        self.members: dict[str, str] = {}
        self.take("interface")
        self.interface = self.tokens.pop(0)
        while self.tokens:
            kind, name = self.tokens.pop(0), self.tokens.pop(0)
            assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", name)
            assert name not in self.members
            self.members[name] = kind
            assert kind in {"type", "method", "error"}
            self.struct()
            if kind == "method":
                self.take("->")
                self.struct()
        assert self.used <= {name for name, kind in self.members.items() if kind == "type"}

    def take(self, expected: str) -> None:
        assert self.tokens.pop(0) == expected

    def struct(self) -> None:
        self.take("(")
        seen: set[str] = set()
        while self.tokens[0] != ")":
            name = self.tokens.pop(0)
            assert re.fullmatch(FIELD, name)
            assert name not in seen
            seen.add(name)
            if self.tokens[0] == ":":
                self.take(":")
                self.type()
            if self.tokens[0] != ")":
                self.take(",")
                assert self.tokens[0] != ")"
        self.take(")")

    def type(self) -> None:
        while self.tokens[0] in {"?", "[]", "[string]"}:
            self.tokens.pop(0)
        if self.tokens[0] == "(":
            return self.struct()
        name = self.tokens.pop(0)
        if name not in {"bool", "int", "float", "string", "object"}:
            self.used.add(name)
        return None


def test_the_descriptions_are_well_formed() -> None:
    service, control = Description(SERVICE_DESCRIPTION), Description(CONTROL_DESCRIPTION)
    assert service.interface == SERVICE_INTERFACE
    assert control.interface == CONTROL_INTERFACE
    assert {name for name, kind in service.members.items() if kind == "method"} == {
        "GetInfo",
        "GetInterfaceDescription",
    }
    assert {name for name, kind in control.members.items() if kind == "method"} == {
        "GetStatus",
        "GetNetwork",
        "Rekey",
        "Switchover",
    }


def test_value_without_an_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="method"):
        Call(method="nothing")
    with pytest.raises(ValueError, match=r".+"):
        encode_reply(Reply(parameters={"a": float("nan")}))
