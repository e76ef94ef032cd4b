"""Every cell of the role table (`core/role_table.py`) holds for a node in that role."""

from collections.abc import Callable

import pytest

from pskkey.core.actions import Action, Connect, Disconnect
from pskkey.core.events import Connected, Direction, Disconnected, Session, SwitchoverRequested, Timeout
from pskkey.core.role_table import TABLE, Cell, Ignored, Refused, Trigger
from pskkey.model import ErrorMessage, Group, Handover, Merge, Message, Role, SavedState
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one
from tests.core.situations import HIGH, LOW, OTHER

NOWHERE = Session(Direction.OUTBOUND, 99)
SEEN_TERM = 3
MASTER = LOW
"""The node at the other end of the outbound session."""


class Situation:
    """A node in a role, with its outbound session if it has one."""

    def __init__(self, role: Role) -> None:
        self.harness = harness = NodeHarness(saved=SavedState("g", ME, "i0", SEEN_TERM)).start()
        self.session = NOWHERE
        match role:
            case Role.LISTENING:
                pass
            case Role.JOINING:
                self.session = one(Connect, harness.hear(advert(MASTER, Role.MASTER, term=3))).session
                harness.give(Connected(self.session))
            case Role.CLIENT:
                self.session = harness.become_client(master=MASTER, term=3)
            case Role.MASTER:
                harness.become_master()
                harness.accept(1, join(HIGH))
                harness.wait(0.3)
                # A rival that ranks higher: the node asks it.
                self.session = one(Connect, harness.hear(advert(MASTER, Role.MASTER, term=1))).session
                harness.give(Connected(self.session))
        assert harness.view.role is role

    def receive_from_peer(self, message: Message) -> list[Action]:
        """Receive a message of the peer of the outbound session."""
        return self.harness.receive(self.session, message)

    def receive_from_client(self, message: Message) -> list[Action]:
        """Receive a message of a new client."""
        return self.harness.accept(2, message)


def merge(master: str, winner: str | None, members: int = 1) -> Merge:
    """Return a MERGE of a master that serves so many nodes."""
    return Merge(member(master), 3, members, 1, winner=winner)


def time_over(at: Situation) -> list[Action]:
    """Let time pass without any message until the node changes its role."""
    role, actions = at.harness.view.role, []
    for _ in range(100):
        deadline = at.harness.node.next_deadline()
        assert deadline is not None
        at.harness.now = max(at.harness.now, deadline)
        actions += at.harness.give(Timeout())
        if at.harness.view.role is not role:
            break
    return actions


def slept(at: Situation) -> list[Action]:
    """Let the node run again long after its deadline, by an event without a meaning."""
    at.harness.now += 100.0
    return at.harness.hear_old(advert(OTHER, Role.LISTENING))


def group(term: int) -> Group:
    """Return the group of the peer."""
    return Group(term, MASTER, (member(MASTER), member(ME)), (ME,))


def welcomed_by_winner(at: Situation) -> list[Action]:
    """Let a master lose a merge, and receive GROUP of the winner. Another node takes no part in a merge."""
    if at.harness.view.role is not Role.MASTER:
        return []
    at.receive_from_peer(merge(MASTER, MASTER))
    return at.receive_from_peer(group(5))


EVENTS: dict[Trigger, Callable[[Situation], list[Action]]] = {
    Trigger.MASTER_PROVEN: lambda at: at.harness.hear(advert(OTHER, Role.MASTER, term=4)),
    Trigger.MASTER_HINTED: lambda at: at.harness.hear_old(advert(OTHER, Role.MASTER, term=4)),
    Trigger.TIME_OVER: time_over,
    Trigger.WELCOMED: lambda at: at.receive_from_peer(group(5)),
    Trigger.WELCOMED_BY_WINNER: welcomed_by_winner,
    Trigger.FENCED: lambda at: at.receive_from_peer(group(SEEN_TERM - 1)),
    Trigger.SESSION_ENDED: lambda at: at.harness.give(Disconnected(at.session, "reset")),
    Trigger.NOT_MASTER: lambda at: at.receive_from_peer(ErrorMessage("not_master", "not I")),
    Trigger.HANDED_OVER: lambda at: at.receive_from_peer(Handover(member(ME), 6)),
    Trigger.SENT_ON: lambda at: at.receive_from_peer(Handover(member(OTHER), 6)),
    Trigger.JOIN: lambda at: at.receive_from_client(join(OTHER)),
    Trigger.JOIN_OF_MEMBER: lambda at: at.receive_from_client(join(OTHER, term=at.harness.view.term)),
    Trigger.MERGE_WON: lambda at: at.receive_from_client(merge(HIGH, None)),
    Trigger.MERGE_LOST: lambda at: at.receive_from_client(merge(OTHER, None, members=7)),
    Trigger.ANSWER_WON: lambda at: at.receive_from_peer(merge(MASTER, ME)),
    Trigger.ANSWER_LOST: lambda at: at.receive_from_peer(merge(MASTER, MASTER)),
    Trigger.SLEPT: slept,
    Trigger.SWITCHOVER: lambda at: at.harness.give(SwitchoverRequested()),
}

CELLS = [(trigger, role, cell) for trigger, cells in TABLE.items() for role, cell in cells.items()]


def test_table_has_each_event_in_each_role() -> None:
    assert set(TABLE) == set(EVENTS) == set(Trigger)
    assert all(set(cells) == set(Role) for cells in TABLE.values())


@pytest.mark.parametrize(("trigger", "role", "cell"), CELLS, ids=lambda part: getattr(part, "name", ""))
def test_cell_holds(trigger: Trigger, role: Role, cell: Cell) -> None:
    at = Situation(role)
    before = at.harness.view
    actions = EVENTS[trigger](at)
    after = at.harness.view
    match cell:
        case Role():
            assert after.role is cell
        case Refused(code):
            assert after == before
            assert [d.error.code for d in of(Disconnect, actions) if d.error] == [code]
        case Ignored():
            assert after == before
            assert not of(Disconnect, actions)
            assert not of(Connect, actions)
