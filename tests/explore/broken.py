"""Nodes with a defect on purpose, one for each guarantee. They prove that each check finds its fault."""

from dataclasses import replace

from pskkey.core.actions import Action, Send
from pskkey.core.events import AdvertReceived, Direction, Disconnected, Event, RekeyRequested, Timeout
from pskkey.core.node import Node
from pskkey.core.view import NodeView
from pskkey.model import Group, Heartbeat, KeyState, Role


class ForgetsItsTerm(Node):
    """Shows no term while it has no master."""

    def view(self) -> NodeView:
        view = super().view()
        return view if view.master else replace(view, term=0)


class RunsAhead(Node):
    """As a member it shows a later term than its master."""

    def view(self) -> NodeView:
        view = super().view()
        return replace(view, term=view.term + 1) if view.role is Role.CLIENT else view


class MixesUpEpochs(Node):
    """As master it swaps the epochs of two keys in its view when the second one is in use."""

    def view(self) -> NodeView:
        view = super().view()
        if view.role is not Role.MASTER or len(view.keys) != 2 or view.next is not None:
            return view
        first, second = view.keys
        return replace(view, keys=(replace(first, epoch=second.epoch), replace(second, epoch=first.epoch)))


class LeasesTwice(Node):
    """Lets its session manager send under sender id 0, whatever the master has leased."""

    def handle(self, event: Event, now: float) -> list[Action]:
        return [self._with_id_0(action) for action in super().handle(event, now)]

    def _with_id_0(self, action: Action) -> Action:
        match action:
            case Send(session, KeyState(sender_id=int()) as state) if session.direction is Direction.LOCAL:
                return Send(session, replace(state, sender_id=0))
            case _:
                return action


class DropsTooSoon(Node):
    """Takes the former key from its session manager when the next one arrives."""

    def handle(self, event: Event, now: float) -> list[Action]:
        return [self._shortened(action) for action in super().handle(event, now)]

    def _shortened(self, action: Action) -> Action:
        match action:
            case Send(session, KeyState(entries=(_, last)) as state) if session.direction is Direction.LOCAL:
                return Send(session, replace(state, entries=(last,)))
            case _:
                return action


class MiscountsAcknowledgements(Node):
    """Shows that all members have acknowledged the first epoch and no other."""

    def group(self) -> Group | None:
        group = super().group()
        return group and replace(
            group, members=tuple(m if m.acked_epoch is None else replace(m, acked_epoch=1) for m in group.members)
        )


class RepeatsAnEpoch(Node):
    """Lists each key twice."""

    def key_state(self) -> KeyState:
        state = super().key_state()
        return replace(state, entries=state.entries * 2)


class SendsOnClosedSession(Node):
    """Sends on a session that has ended."""

    def handle(self, event: Event, now: float) -> list[Action]:
        actions = super().handle(event, now)
        return [*actions, Send(event.session, Heartbeat())] if isinstance(event, Disconnected) else actions


class Spins(Node):
    """Is always due at once."""

    def next_deadline(self) -> float | None:
        return 0.0


class GivesUp(Node):
    """Has no deadline while it joins."""

    def next_deadline(self) -> float | None:
        return None if self.view().role is Role.JOINING else super().next_deadline()


class Fails(Node):
    """Raises an exception if it is asked for a new key as a member."""

    def handle(self, event: Event, now: float) -> list[Action]:
        if isinstance(event, RekeyRequested) and self.view().role is Role.CLIENT:
            raise KeyError(event.reason)
        return super().handle(event, now)


class IgnoresAdverts(Node):
    """As master it ignores all adverts."""

    def handle(self, event: Event, now: float) -> list[Action]:
        if isinstance(event, AdvertReceived) and self.view().role is Role.MASTER:
            event = Timeout()
        return super().handle(event, now)
