"""A member of LOW whose PSK changes, at each moment of the renewal of its session."""

from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import Connected, PskChanged, Session
from pskkey.core.notices import MasterLost, RoleChanged
from pskkey.model import ErrorMessage, Group, Heartbeat, PskName, Role
from tests.core.door import ME, OLD_PSK, Door, member, of, one
from tests.core.situations import HIGH, LOW

OLD, NEW, NEWER = OLD_PSK, PskName("new"), PskName("newer")
BUSY = ErrorMessage("busy", "no place")


def change(door: Door, active: PskName, *others: PskName) -> list[Action]:
    """Change the PSK file of a node; `others` are accepted too."""
    return door.give(PskChanged(active, frozenset({active, *others}))) + door.wait(0.0)


def group(term: int = 1) -> Group:
    """Return the group of LOW with HIGH and ourselves."""
    return Group(term, LOW, (member(LOW), member(ME), member(HIGH)), (ME, HIGH))


def client() -> tuple[Door, Session]:
    """Return a member of LOW, and its session, which was opened with OLD."""
    door = Door().start()
    return door, door.become_client(HIGH)


def connecting() -> tuple[Door, Session, Session]:
    """Return one that has begun to open its second session, with its first session and the second."""
    door, first = client()
    return door, first, one(Connect, change(door, NEW, OLD)).session


def greeting() -> tuple[Door, Session, Session]:
    """Return one that has sent JOIN on its second session."""
    door, first, second = connecting()
    door.give(Connected(second, NEW))
    return door, first, second


def on(session: Session, actions: list[Action]) -> list[type]:
    """Return the kinds of messages that are sent on a session."""
    return [type(a.message) for a in of(Send, actions) if a.session == session]


def is_answered(door: Door, session: Session) -> bool:
    """Return whether a heartbeat of the master is answered on a session."""
    door.wait(0.5)
    return on(session, door.receive(session, Heartbeat())) == [Heartbeat]


def closed(actions: list[Action]) -> list[Session]:
    """Return the sessions that are closed."""
    return [a.session for a in of(Disconnect, actions)]


def is_uninterrupted(door: Door) -> bool:
    """Return whether the node has been a member of LOW since it joined it."""
    kinds = [type(a) for a in door.log]
    return door.view.role is Role.CLIENT and MasterLost not in kinds and kinds.count(RoleChanged) == 2
