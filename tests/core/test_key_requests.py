"""KEY_REQ: members always get the key, and other clients if the operator allows it. Each answer is reported."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pskkey.core.events import Accepted, Attached, SettingsChanged
from pskkey.core.notices import KeyRequestAnswered, KeyRequestRefused
from pskkey.model import KeyRequest, KeyResponse, Process
from tests.core.harness import NodeHarness, join, of, refusal, sent
from tests.core.situations import CHANGED, LOCAL, LOW, inbound

OFF = replace(CHANGED, key_requests=False)
FROM = ("192.0.2.7", "old-client")


def master() -> NodeHarness:
    return NodeHarness().start().become_master()


def client() -> NodeHarness:
    harness = NodeHarness().start()
    harness.become_client()
    return harness


@pytest.mark.parametrize("begin", [master, client])
def test_client_that_has_not_joined_gets_the_key_and_is_reported_each_time(begin: Callable[[], NodeHarness]) -> None:
    harness = begin()
    harness.give(Accepted(inbound(1), *FROM))
    for _ in range(2):
        actions = harness.receive(inbound(1), KeyRequest())
        assert len(sent(KeyResponse, actions)) == 1
        assert of(KeyRequestAnswered, actions) == [KeyRequestAnswered(*FROM)]
        assert refusal(actions) is None


@pytest.mark.parametrize("begin", [master, client])
def test_it_is_refused_and_reported_if_the_operator_has_switched_that_off(begin: Callable[[], NodeHarness]) -> None:
    harness = begin()
    harness.give(OFF)
    harness.give(Accepted(inbound(1), *FROM))
    actions = harness.receive(inbound(1), KeyRequest())
    assert refusal(actions) == "key_requests_off"
    assert not sent(KeyResponse, actions)
    assert of(KeyRequestRefused, actions) == [KeyRequestRefused(*FROM)]
    harness.give(CHANGED)
    harness.give(Accepted(inbound(2), *FROM))
    assert sent(KeyResponse, harness.receive(inbound(2), KeyRequest()))


@pytest.mark.parametrize("change", [CHANGED, OFF])
def test_members_and_session_managers_get_the_key_without_a_report(change: SettingsChanged) -> None:
    harness = master()
    harness.give(change)
    harness.accept(1, join(LOW))
    harness.give(Attached(LOCAL, Process(1, 2)))
    for session in (inbound(1), LOCAL):
        actions = harness.receive(session, KeyRequest())
        assert len(sent(KeyResponse, actions)) == 1
        assert not of(KeyRequestAnswered, actions)


def test_request_before_there_is_a_key_is_no_answered_request() -> None:
    harness = NodeHarness().start()
    actions = harness.accept(1, KeyRequest())
    assert refusal(actions) == "no_key"
    assert not of(KeyRequestAnswered, actions)
