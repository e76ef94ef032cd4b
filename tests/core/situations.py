"""Nodes, situations that several tests begin with, and the parts of a view that they examine."""

from dataclasses import replace

from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Connected, Direction, Disconnected, Session, SettingsChanged
from pskkey.core.keyring import Keyring
from pskkey.core.settings import Timing
from pskkey.core.view import NodeView
from pskkey.model import ErrorMessage, Group, HeldKey, Join, KeyAck, KeyEntry, KeyState, KeyWatch, Process, Role
from tests.core.harness import NodeHarness, join, member, of, one, sent
from tests.core.keys import entry, key

LOW, HIGH, OTHER = "11111111", "99999999", "22222222"
LOCAL, SECOND_LOCAL = Session(Direction.LOCAL, 1), Session(Direction.LOCAL, 2)
CHANGED = SettingsChanged("new", 7, eligible=True, max_members=1024, preempt=False, timing=Timing())
SAME = Process(0, 1000)


def inbound(number: int) -> Session:
    """Return the session that was accepted under this number."""
    return Session(Direction.INBOUND, number)


def state(*entries: KeyEntry, sender_id: int = 3) -> KeyState:
    """Return a key state of these entries."""
    return KeyState(sender_id, frozenset({sender_id}), entries)


def group_of(term: int, master: str, *others: str) -> Group:
    """Return a group of these nodes."""
    ids = (master, *others)
    return Group(term, master, tuple(member(i, sender_id=n) for n, i in enumerate(ids)), tuple(sorted(others)))


def sender(node: str, *, sends_with: int, key_number: int, lease: int) -> Join:
    """Return the JOIN of a node that sends with this key under this lease."""
    held = (HeldKey(sends_with, key(key_number).fingerprint, send=True),)
    return replace(join(node, held=held, incarnation=f"i-{node}"), sender=True, lease=lease)


def role(harness: NodeHarness) -> Role:
    """Return the role of a node; a type checker takes two reads of the property for the same value."""
    return harness.view.role


def sending_epoch(ring: Keyring | NodeView) -> int | None:
    """Return the epoch that a node sends with."""
    return None if ring.current is None else ring.current.epoch


def acknowledge(harness: NodeHarness, number: int, epoch: int) -> None:
    """Let member `number` acknowledge an epoch."""
    harness.receive(Session(Direction.INBOUND, number), KeyAck(epoch))


# --- session managers -------------------------------------------------------------------------------------------------


def lone_client() -> tuple[NodeHarness, Session]:
    """Return a client of LOW that has key 901, and its session with the master."""
    harness = NodeHarness().start()
    return harness, harness.become_client(master=LOW)


def attach_sender(harness: NodeHarness, session: Session, context: int) -> list[KeyState]:
    """Attach a sender, always of the same process; return the states that it gets."""
    harness.give(Attached(session, SAME))
    return sent(KeyState, harness.receive(session, KeyWatch(will_send=True, context=context)))


# --- the loss of the master -------------------------------------------------------------------------------------------


def taken_over(max_members: int = 1024) -> NodeHarness:
    """Return the successor of LOW, which has served it and HIGH with the key 901."""
    harness = NodeHarness(max_members=max_members).start()
    session = harness.become_client(HIGH)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    return harness


def client_mid_rekey() -> tuple[NodeHarness, Session]:
    """Return a client, with HIGH beside it, whose master has just distributed a second key."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.wait(0.6)
    state = KeyState(1, frozenset({0, 1, 2}), (entry(1, 901, send=True), entry(2, 902)))
    harness.receive(session, state)
    return harness, session


def take_over(harness: NodeHarness, session: Session) -> NodeHarness:
    """Let a client lose its master and take over."""
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    return harness


def rejoin(harness: NodeHarness, number: int, node: str, lease: int) -> KeyState:
    """Let a member of the lost master join with both keys; return the last state that it gets."""
    held = (HeldKey(1, key(901).fingerprint, send=True), HeldKey(2, key(902).fingerprint, send=False))
    back = replace(join(node, held=held), sender=True, lease=lease)
    return sent(KeyState, harness.accept(number, back))[-1]


def role_after_refusal(harness: NodeHarness) -> Role:
    """Let the peer of the last connection answer `not_master`; return the role of the node a moment later."""
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    harness.receive(session, ErrorMessage("not_master", "I have yielded"))
    harness.wait(0.1)
    return harness.view.role


def fail_until_master(harness: NodeHarness) -> None:
    """Let each attempt of the node to connect fail, until it is master again."""
    tried = len(of(Connect, harness.log)) - 1
    for _ in range(40):
        for connect in of(Connect, harness.log)[tried:]:
            tried += 1
            harness.give(Disconnected(connect.session, "no answer"))
        if harness.view.role is Role.MASTER:
            return
        harness.wait(0.5)
    raise AssertionError("it has not become master again")
