"""Every cell of the role table (`core/role_table.py`), on a real node that was brought into the role."""

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
                # A rival that goes before us: we go and ask it.
                self.session = one(Connect, harness.hear(advert(MASTER, Role.MASTER, term=1))).session
                harness.give(Connected(self.session))
        assert harness.view.role is role

    def says(self, message: Message) -> list[Action]:
        """Let the peer of the outbound session say this."""
        return self.harness.receive(self.session, message)

    def asked(self, message: Message) -> list[Action]:
        """Let a new client say this."""
        return self.harness.accept(2, message)


def merge(master: str, winner: str | None, members: int = 1) -> Merge:
    """Return a MERGE of a master that serves so many nodes."""
    return Merge(member(master), 3, members, 1, winner=winner)


def time_over(at: Situation) -> list[Action]:
    """Let time pass to where the node gives up what it does: nobody says anything."""
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
    """Let the node run again long after its deadline, by an event that says nothing."""
    at.harness.now += 100.0
    return at.harness.hear_old(advert(OTHER, Role.LISTENING))


def group(term: int) -> Group:
    """Return the group of the peer."""
    return Group(term, MASTER, (member(MASTER), member(ME)), (ME,))


EVENTS: dict[Trigger, Callable[[Situation], list[Action]]] = {
    Trigger.MASTER_PROVEN: lambda at: at.harness.hear(advert(OTHER, Role.MASTER, term=4)),
    Trigger.MASTER_HINTED: lambda at: at.harness.hear_old(advert(OTHER, Role.MASTER, term=4)),
    Trigger.TIME_OVER: time_over,
    Trigger.WELCOMED: lambda at: at.says(group(5)),
    Trigger.FENCED: lambda at: at.says(group(SEEN_TERM - 1)),
    Trigger.SESSION_ENDED: lambda at: at.harness.give(Disconnected(at.session, "reset")),
    Trigger.REFUSED: lambda at: at.says(ErrorMessage("not_master", "not I")),
    Trigger.HANDED_OVER: lambda at: at.says(Handover(member(ME), 6)),
    Trigger.SENT_ON: lambda at: at.says(Handover(member(OTHER), 6)),
    Trigger.JOIN: lambda at: at.asked(join(OTHER)),
    Trigger.MERGE_WON: lambda at: at.asked(merge(HIGH, None)),
    Trigger.MERGE_LOST: lambda at: at.asked(merge(OTHER, None, members=7)),
    Trigger.ANSWER_WON: lambda at: at.says(merge(MASTER, ME)),
    Trigger.ANSWER_LOST: lambda at: at.says(merge(MASTER, MASTER)),
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
