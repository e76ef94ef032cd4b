"""The table of events: every notice has a row and a sentence with the content of the notice."""

import string
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from pskkey.core import notices
from pskkey.core.notices import Claim, JoinFailed, KeyRequested, Notice
from pskkey.daemon.event_kinds import DaemonEvent, NodeEvent
from pskkey.daemon.event_table import EVENT_OF, EVENTS, sentence
from pskkey.daemon.log_budget import Cause
from pskkey.model import Advert, KeyNewReason, Member, Role, Suite

PEER = Member("0badcafe", "pump-7", ("10.0.0.7",), 11111, 100, eligible=True)
ADVERT = Advert("g", "0badcafe", "pump-7", 100, True, Role.MASTER, 3, 2, ("10.0.0.7",), 11111)
EXAMPLES: dict[type, Any] = {
    Member: PEER,
    Advert: ADVERT,
    str: "a word",
    int: 4711,
    float: 3.25,
    Role: Role.MASTER,
    Suite: Suite.PSK_CHACHA20_POLY1305,
    KeyNewReason: KeyNewReason.SENDER_RESTARTED,
    Claim: Claim.SUCCESSION,
}
NOTICES = [
    kind
    for kind in vars(notices).values()
    if isinstance(kind, type) and issubclass(kind, Notice) and kind is not Notice
]


def make_example(kind: type[Notice]) -> Notice:
    """Return a notice of a kind."""
    hints = get_type_hints(kind)
    return kind(**{one.name: EXAMPLES[hints[one.name]] for one in fields(kind)})


def test_every_notice_has_one_row_and_every_node_event_has_notices() -> None:
    assert len(NOTICES) > 25
    assert EVENT_OF.keys() == set(NOTICES)
    assert sum(len(entry.sentences) for entry in EVENTS.values()) == len(NOTICES)
    assert set(EVENT_OF.values()) == set(NodeEvent)
    assert all(EVENTS[event].counted for event in NodeEvent)
    assert not any(EVENTS[event].sentences for event in DaemonEvent)


@pytest.mark.parametrize("kind", NOTICES, ids=lambda kind: kind.__name__)
def test_sentence_has_the_attributes_of_its_notice(kind: type[Notice]) -> None:
    template = EVENTS[EVENT_OF[kind]].sentences[kind]
    named = {name.partition(".")[0] for _, name, _, _ in string.Formatter().parse(template) if name}
    there = {one.name for one in fields(kind)}
    assert named <= there
    # The code of a failure is for programs. People read its reason.
    assert there - named <= {"code"}
    text = sentence(make_example(kind))
    assert "{" not in text
    assert ("pump-7" in text) == bool({"peer", "winner"} & there)


@pytest.mark.parametrize("event", NodeEvent)
def test_the_fields_of_a_row_are_attributes_of_its_notices(event: NodeEvent) -> None:
    entry = EVENTS[event]
    names = {one.name for kind in entry.sentences for one in fields(kind)}
    assert set(entry.fields.split()) <= names | ({"count"} if entry.per_peer else set())


def test_an_event_that_is_counted_for_each_peer_has_its_address_and_the_number() -> None:
    for entry in EVENTS.values():
        assert entry.per_peer == ({"address", "count"} <= set(entry.fields.split()))
        assert entry.per_peer == (entry.cause is Cause.COUNTED)


def test_text_of_a_peer_is_no_format() -> None:
    assert sentence(JoinFailed(PEER, "x", "{peer.id} {0}")) == "could not join pump-7: {peer.id} {0}"


def test_reason_has_its_name_of_the_status() -> None:
    assert sentence(KeyRequested(KeyNewReason.RECEIVER_BEGAN)) == "making a new key: receiver_began"
