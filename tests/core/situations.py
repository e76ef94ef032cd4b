"""Situations that several tests of a node begin with, and what they look at."""

from dataclasses import replace

from pskkey.core.actions import Connect
from pskkey.core.events import Direction, Disconnected, Session
from pskkey.core.keyring import Keyring
from pskkey.core.view import NodeView
from pskkey.model import HeldKey, Join, KeyAck, KeyEntry, KeyState, Role
from tests.core.harness import NodeHarness, join, one
from tests.core.keys import key

LOW, HIGH, OTHER = "11111111", "99999999", "22222222"


def state(*entries: KeyEntry, sender_id: int = 3) -> KeyState:
    """Return a key state of these entries."""
    return KeyState(sender_id, frozenset({sender_id}), entries)


def sending(ring: Keyring | NodeView) -> int | None:
    """Return the epoch that a node sends with."""
    return None if ring.current is None else ring.current.epoch


def acked(harness: NodeHarness, number: int, epoch: int) -> None:
    """Let member `number` have installed an epoch."""
    harness.receive(Session(Direction.INBOUND, number), KeyAck(epoch))


def sender(node: str, *, sends_with: int, key_number: int, lease: int) -> Join:
    """Return the JOIN of a node that sends with this key under this lease."""
    held = (HeldKey(sends_with, key(key_number).fingerprint, send=True),)
    return replace(join(node, held=held, incarnation=f"i-{node}"), sender=True, lease=lease)


def taken_over(max_members: int = 1024) -> NodeHarness:
    """Return the successor of LOW, which has served it and HIGH with the key 901."""
    harness = NodeHarness(max_members=max_members).start()
    session = harness.become_client(HIGH)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    return harness
