"""A response that comes again is not read again, and few responses are remembered."""

import asyncio
from collections import Counter
from typing import Any, NoReturn

import pytest

from pskkey.adapters.discovery import mdns_gate
from pskkey.adapters.discovery.mdns_gate import MAX_REMEMBERED, MAX_RESPONSES, Gate
from pskkey.adapters.discovery.source import Source
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.wire.dns import InstanceText, Query, Response, read_message_untrusted
from tests.wire import dns_messages as dns

NAME = "pskkey-0123456789abcdef"
IPV4 = ("192.0.2.1", 5353)
IPV6 = ("fe80::1", 5353, 0, 2)


class Taken:
    """A gate, and what it has passed on."""

    def __init__(self) -> None:
        self.texts: list[tuple[bytes, Source]] = []
        self.counters: Counter[str] = Counter()
        self._gate = Gate(frozenset(), self._take, self.counters, SocketOptions(self.counters))

    def receive(self, data: bytes, source: tuple[Any, ...] = IPV4) -> None:
        self._gate.received(asyncio.DatagramProtocol(), data, source)

    def _take(self, text: InstanceText, source: Source, _now: float) -> None:
        self.texts.append((text.text, source))


def response(text: bytes) -> bytes:
    return dns.announcement(NAME, dns.text_data({"grp": text.decode()}))


def refuse(_: bytes) -> NoReturn:
    pytest.fail("it is read again")


def test_response_over_the_other_ip_version_is_passed_on_without_being_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, data = Taken(), response(b"a")
    taken.receive(data)
    monkeypatch.setattr(mdns_gate, "read_message_untrusted", refuse)
    taken.receive(data, IPV6)
    (first, one), (second, other) = taken.texts
    assert first == second
    assert (one, other) == (Source("192.0.2.1", 0), Source("fe80::1", 2))


def test_budget_holds_for_a_response_that_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, data = Taken(), response(b"a")
    taken.receive(data)
    monkeypatch.setattr(mdns_gate, "SHARE_OF_SOURCE", 0.0)
    taken.receive(data, ("192.0.2.2", 5353))
    assert len(taken.texts) == 1
    assert taken.counters["mdns_dropped"] == 1


def test_only_the_last_and_small_responses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Taken()
    large = response(b"x" * 200) + bytes(MAX_REMEMBERED)
    taken.receive(large)
    taken.receive(response(b"first"))
    for number in range(MAX_RESPONSES):
        taken.receive(response(b"%d" % number))
    read = []

    def note(data: bytes) -> Query | Response:
        read.append(data)
        return read_message_untrusted(data)

    monkeypatch.setattr(mdns_gate, "read_message_untrusted", note)
    for data in (large, response(b"first"), response(b"%d" % (MAX_RESPONSES - 1))):
        taken.receive(data)
    assert read == [large, response(b"first")]
