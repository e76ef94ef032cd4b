"""The sizes of messages in ARCHITECTURE's page on cost are those of these examples."""

import re
from typing import Final

import pytest

from pskkey.model import (
    Group,
    GroupChange,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    KeyAck,
    KeyEntry,
    KeyState,
    Member,
    Merge,
    Message,
    Times,
)
from pskkey.wire.packet import encode
from tests.quality.tracked import ROOT
from tests.wire.messages import numbered_key

FINGERPRINT: Final = "0f" * 8
NODES: Final = 100


def node(number: int) -> Member:
    """Return a node with an id of 32 digits, its two addresses and its version."""
    addresses = (f"10.0.12.{number % 256}", f"fe80::5054:ff:fe12:{number:x}")
    return Member(f"{number:032x}", f"pump-{number:03}", addresses, 11111, sender_id=number % 256, version="0.1.0")


def keys(count: int) -> KeyState:
    """Return a key state of so many keys."""
    return KeyState(3, frozenset({3}), tuple(KeyEntry(n + 1, numbered_key(n), send=n == 0) for n in range(count)))


MEMBERS: Final = tuple(map(node, range(100, 100 + NODES)))
ME: Final = MEMBERS[0].id
HELD: Final = (HeldKey(7, FINGERPRINT, send=True),)
TIMES: Final = Times(0.5, 1.5)
EXAMPLES: Final[dict[str, tuple[Message, ...]]] = {
    "HEARTBEAT": (Heartbeat(),),
    "JOIN": (Join("default", node(255), "5f" * 16, 12, HELD, sender=True, lease=155, knows=FINGERPRINT),),
    "GROUP_CHANGE, next master": (
        GroupChange(13, 1, 0, FINGERPRINT, ME, (), (node(7).id,), key_age=80000, has_keys=True),
    ),
    "GROUP_CHANGE, one that comes": (GroupChange(12, 345, 344, members=(node(255),)),),
    "GROUP_CHANGE, one that goes": (GroupChange(12, 345, 344, left=(ME,)),),
    "KEY_STATE, 1, 2, 3 keys": tuple(keys(count) for count in (1, 2, 3)),
    "KEY_ACK": (KeyAck(7),),
    "HANDOVER": (Handover(node(255), 13),),
    "MERGE": (Merge(node(255), 12, NODES, 7),),
}
FOR_EACH_NODE: Final[dict[str, Message]] = {
    "GROUP_CHANGE, whole": GroupChange(12, 1, 0, "", ME, MEMBERS, (), TIMES, 1, key_age=80000, has_keys=True),
    "GROUP": Group(12, ME, MEMBERS, tuple(each.id for each in MEMBERS), TIMES),
}


def sizes(name: str) -> list[int]:
    """Return the sizes in the row of a message."""
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("## Cost")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\| {re.escape(name)} \| ([\d, ]+?)(?: n)? \|", page, re.MULTILINE)
    return [int(size) for size in row.split(", ")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_size_in_the_page_is_that_of_the_example(name: str) -> None:
    assert [len(encode(message)) for message in EXAMPLES[name]] == sizes(name)


@pytest.mark.parametrize("name", FOR_EACH_NODE)
def test_size_for_each_node_in_the_page_is_that_of_the_example(name: str) -> None:
    (size,) = sizes(name)
    assert round(len(encode(FOR_EACH_NODE[name])) / NODES) == size
