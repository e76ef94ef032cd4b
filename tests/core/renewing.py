"""A member of LOW whose PSK changes, at each moment of the renewal of its session."""

from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import Connected, PskChanged, Session
from pskkey.core.notices import MasterLost, RoleChanged
from pskkey.model import ErrorMessage, Group, Heartbeat, PskName, Role
from tests.core.harness import ME, OLD_PSK, NodeHarness, member, of, one
from tests.core.situations import HIGH, LOW

OLD, NEW, NEWER = OLD_PSK, PskName("new"), PskName("newer")
BUSY = ErrorMessage("busy", "no place")


def change_psk(harness: NodeHarness, active: PskName, *others: PskName) -> list[Action]:
    """Change the PSK file of a node; `others` are accepted too."""
    return harness.give(PskChanged(active, frozenset({active, *others}))) + harness.wait(0.0)


def group(term: int = 1) -> Group:
    """Return the group of LOW, HIGH and this node."""
    return Group(term, LOW, (member(LOW), member(ME), member(HIGH)), (ME, HIGH))


def client() -> tuple[NodeHarness, Session]:
    """Return a member of LOW, and its session, which was opened with OLD."""
    harness = NodeHarness().start()
    return harness, harness.become_client(HIGH)


def connecting() -> tuple[NodeHarness, Session, Session]:
    """Return a member that has begun to open its second session; with its first session and the second."""
    harness, first = client()
    return harness, first, one(Connect, change_psk(harness, NEW, OLD)).session


def greeting() -> tuple[NodeHarness, Session, Session]:
    """Return a member that has sent JOIN on its second session; with both sessions."""
    harness, first, second = connecting()
    harness.give(Connected(second, NEW))
    return harness, first, second


def kinds_sent_on(session: Session, actions: list[Action]) -> list[type]:
    """Return the kinds of messages that are sent on a session."""
    return [type(a.message) for a in of(Send, actions) if a.session == session]


def is_answered(harness: NodeHarness, session: Session) -> bool:
    """Return whether a heartbeat of the master is answered on a session."""
    harness.wait(0.5)
    return kinds_sent_on(session, harness.receive(session, Heartbeat())) == [Heartbeat]


def closed(actions: list[Action]) -> list[Session]:
    """Return the sessions that are closed."""
    return [a.session for a in of(Disconnect, actions)]


def is_uninterrupted(harness: NodeHarness) -> bool:
    """Return whether the node has been a member of LOW since it joined it."""
    kinds = [type(a) for a in harness.log]
    return harness.view.role is Role.CLIENT and MasterLost not in kinds and kinds.count(RoleChanged) == 2
