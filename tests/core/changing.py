"""A master and its members as they exchange GROUP_CHANGE, for the tests of `core/roster.py` and its users."""

from collections.abc import Iterable
from dataclasses import replace

from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import Accepted, Disconnected, Session
from pskkey.core.roster import fingerprint
from pskkey.model import Group, Heartbeat, HeldKey, Join, KeyAck, Member, Message, Role
from tests.core.harness import NodeHarness, join, of, one
from tests.core.keys import key
from tests.core.situations import inbound

THIRD, FOURTH = "77777777", "88888888"


def to(session: Session, actions: Iterable[Action]) -> list[Message]:
    """Return the messages on a session, without heartbeats."""
    sends = (a.message for a in of(Send, actions) if a.session == session)
    return [message for message in sends if not isinstance(message, Heartbeat)]


def kinds(messages: Iterable[Message]) -> list[type]:
    """Return the kinds of messages."""
    return [type(message) for message in messages]


def enter(
    harness: NodeHarness, number: int, node: str, knows: str | None = "", *, asked: Join | None = None
) -> list[Action]:
    """Let a node open a session and send JOIN, which names the map `knows`. It does not confirm."""
    first = replace(asked or join(node), knows=knows)
    harness.give(Accepted(inbound(number), f"10.0.0.{number}"))
    return harness.receive(inbound(number), first)


def come(harness: NodeHarness, number: int, node: str, knows: str | None = "", *, asked: Join | None = None) -> None:
    """Let a node join and confirm it, and let the others get the change."""
    enter(harness, number, node, knows, asked=asked)
    harness.receive(inbound(number), Heartbeat())
    beat(harness, 0.2)


def beat(harness: NodeHarness, seconds: float) -> list[Action]:
    """Let time pass in which all members of this master are heard."""
    actions: list[Action] = []
    for _ in range(round(seconds / 0.1)):
        actions += harness.wait(0.1)
        closed = {d.session for d in of(Disconnect, harness.log)}
        for session in {a.session for a in of(Send, harness.log)} - closed:
            harness.receive(session, Heartbeat())
    return actions


def leading(*nodes: str) -> NodeHarness:
    """Return a master with these members, on the sessions 1, 2...; all have acknowledged its key."""
    harness = NodeHarness().start().become_master()
    for number, node in enumerate(nodes, 1):
        come(harness, number, node)
        harness.receive(inbound(number), KeyAck(1))
    beat(harness, 0.5)
    return harness


def ids(entries: Iterable[Member]) -> set[str]:
    """Return the ids of members."""
    return {entry.id for entry in entries}


def succeeding(*nodes: str) -> tuple[NodeHarness, str, Group]:
    """Return a node that has just taken over from LOW, and the map that it and `nodes` have got from LOW."""
    harness = NodeHarness().start()
    session = harness.become_client(*nodes)
    group = harness.node.group()
    assert group is not None
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    return harness, fingerprint(group), group


def back(node: str, group: Group) -> Join:
    """Return the JOIN of a member of the lost master, which has its key and its sender id."""
    lease = next(entry.sender_id for entry in group.members if entry.id == node)
    held = (HeldKey(1, key(901).fingerprint, send=True),)
    return replace(join(node, held=held), sender=True, lease=lease, term=1)
