"""`[key] expires_after`: a node that has had no master for so long only receives, until it has one."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Connect, Send
from pskkey.core.events import Accepted, Attached, Connected, Disconnected, Session, Started, StopRequested, Timeout
from pskkey.core.notices import KeyRequestAnswered
from pskkey.core.settings import Timing
from pskkey.model import (
    Condition,
    ConditionKind,
    Group,
    Heartbeat,
    Join,
    KeyEntry,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Process,
    Role,
)
from tests.core.harness import ME, NodeHarness, advert, member, of, one, refusal, sent
from tests.core.keys import entry
from tests.core.situations import CHANGED, HIGH, LOCAL, LOW, SECOND_LOCAL, inbound, role

PERIOD = 60.0
ON = Timing(expires_after=PERIOD)
CURRENT = entry(1, 901, send=True)


class Device:
    """A node that may not be master, and its session manager, which sends."""

    def __init__(self, timing: Timing = ON) -> None:
        self.harness = NodeHarness(eligible=False, timing=timing).start()
        self.timing = timing
        self.states: list[KeyState] = []
        self._attach()

    def _attach(self) -> None:
        self.note(self.harness.give(Attached(LOCAL, Process(10, 0))))
        self.note(self.harness.receive(LOCAL, KeyWatch(will_send=True, context=7)))

    def note(self, actions: Iterable[Action]) -> None:
        """Keep the key states that the session manager gets."""
        sends = [a for a in actions if isinstance(a, Send) and a.session == LOCAL]
        self.states += [a.message for a in sends if isinstance(a.message, KeyState)]

    def join(self, *entries: KeyEntry, master: str = LOW, term: int = 1) -> Session:
        """Join a master with this key list."""
        connect = one(Connect, self.harness.hear(advert(master, Role.MASTER, term=term)))
        self.note(self.harness.give(Connected(connect.session)))
        group = Group(term, master, (member(master, sender_id=0), member(ME, sender_id=1)), ())
        self.note(self.harness.receive(connect.session, group))
        self.adopt(connect.session, *entries)
        return connect.session

    def adopt(self, session: Session, *entries: KeyEntry) -> None:
        """Receive a key list of the master."""
        self.note(self.harness.receive(session, KeyState(1, frozenset({0, 1}), entries or (CURRENT,))))

    def lose(self, session: Session) -> None:
        """Lose the master, which does not answer any more."""
        self.note(self.harness.give(Disconnected(session, "reset")))
        for connect in of(Connect, self.harness.log)[-1:]:
            self.note(self.harness.give(Disconnected(connect.session, "refused", "refused")))
        assert role(self.harness) in (Role.LISTENING, Role.JOINING)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.note(self.harness.wait(seconds))

    def restart(self, *, down: float = 0.0) -> None:
        """Let the daemon die, and start it after `down` seconds. The session manager connects again."""
        again = NodeHarness(eligible=False, saved=self.harness.node.saved_state(), timing=self.timing)
        again.now = self.harness.now + down
        again.give(Started())
        self.harness = again
        self._attach()

    @property
    def sends(self) -> bool:
        """Whether the session manager may send."""
        state = self.states[-1]
        return state.sender_id is not None and any(one.send for one in state.entries)

    @property
    def expired(self) -> list[Condition]:
        """The condition of expired keys."""
        return [one for one in self.harness.view.conditions if one.kind is ConditionKind.KEY_EXPIRED]


def without_master(timing: Timing = ON) -> Device:
    """Return a node that has just lost its master."""
    device = Device(timing)
    device.lose(device.join())
    assert device.sends
    return device


# --- the expiry -------------------------------------------------------------------------------------------------------


def test_key_never_expires_by_default() -> None:
    device = without_master(Timing())
    device.wait(100_000.0)
    assert device.sends
    assert not device.expired


def test_sender_stops_when_the_time_is_over_and_goes_on_receiving() -> None:
    device = without_master()
    device.wait(PERIOD - 0.01)
    assert device.sends
    assert not device.expired
    device.wait(0.01)
    assert not device.sends
    assert [one.epoch for one in device.states[-1].entries] == [1]
    assert all(one.receive for one in device.states[-1].entries)
    (condition,) = device.expired
    assert "no master for 60 s" in condition.text
    before = len(device.states)
    device.wait(10 * PERIOD)
    assert len(device.states) == before, "the state does not change any more"


def test_key_expires_in_time_though_nothing_else_happens_then() -> None:
    device = without_master(replace(ON, expires_after=57.3, discovery_window=50.0))
    device.wait(57.3)
    assert not device.sends


def test_sender_goes_on_with_the_same_key_when_the_master_is_back() -> None:
    device = without_master()
    device.wait(2 * PERIOD)
    session = device.join()
    assert device.sends
    assert not device.expired
    for _ in range(200):
        device.wait(0.5)
        device.harness.receive(session, Heartbeat())
    assert device.sends


def test_sender_waits_for_the_key_list_of_its_new_master() -> None:
    device = without_master()
    device.wait(2 * PERIOD)
    connect = one(Connect, device.harness.hear(advert(HIGH, Role.MASTER, term=2)))
    device.harness.give(Connected(connect.session))
    group = Group(2, HIGH, (member(HIGH), member(ME)), ())
    assert not sent(KeyState, device.harness.receive(connect.session, group)), "the old key may be out of use"
    device.adopt(connect.session, entry(5, 905, send=True))
    assert device.sends
    assert [one.epoch for one in device.states[-1].entries if one.send] == [5]


def test_expired_key_is_not_sent_with_as_former_key() -> None:
    device = without_master()
    device.wait(2 * PERIOD)
    session = device.join(entry(5, 905), master=HIGH, term=2)
    assert device.harness.view.sends_former_key
    assert not device.sends
    assert [one.epoch for one in device.states[-1].entries] == [1, 5]
    device.adopt(session, entry(5, 905, send=True))
    assert device.sends
    assert not device.expired


def test_join_of_a_node_with_an_expired_key_lists_its_key_and_its_lease() -> None:
    device = without_master()
    device.wait(2 * PERIOD)
    connect = one(Connect, device.harness.hear(advert(LOW, Role.MASTER, term=2)))
    (join,) = sent(Join, device.harness.give(Connected(connect.session)))
    assert (join.lease, [(held.epoch, held.send) for held in join.held]) == (1, [(1, True)])


def test_short_loss_of_the_master_changes_nothing() -> None:
    device = without_master()
    for term in range(2, 9):
        device.wait(PERIOD - 1.0)
        before = len(device.states)
        device.lose(device.join(term=term))
        assert len(device.states) == before
    assert device.sends


def test_node_that_becomes_master_itself_never_stops_sending() -> None:
    harness = NodeHarness(timing=replace(ON, expires_after=10.0)).start().become_master()
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=7))
    harness.wait(100.0)
    assert any(one.send for one in harness.node.key_state().entries)
    assert not harness.view.conditions


def test_node_that_becomes_master_after_the_expiry_sends_again() -> None:
    device = without_master()
    device.wait(2 * PERIOD)
    device.harness.give(replace(CHANGED, timing=ON))
    device.wait(30.0)
    assert role(device.harness) is Role.MASTER
    assert device.sends
    assert not device.expired


@pytest.mark.parametrize("has_key", [True, False])
def test_only_a_node_with_a_key_has_an_expired_one(has_key: bool) -> None:
    device = without_master() if has_key else Device()
    device.wait(2 * PERIOD)
    assert bool(device.expired) is has_key


def test_key_client_gets_no_expired_key() -> None:
    device = without_master()
    harness = device.harness
    harness.give(Attached(SECOND_LOCAL, Process(11, 0)))
    assert sent(KeyResponse, harness.receive(SECOND_LOCAL, KeyRequest()))
    device.wait(2 * PERIOD)
    outsider = harness.give(Accepted(inbound(9), "10.0.0.9")) + harness.receive(inbound(9), KeyRequest())
    for actions in (harness.receive(SECOND_LOCAL, KeyRequest()), outsider):
        assert not sent(KeyResponse, actions)
        assert not of(KeyRequestAnswered, actions)
        assert refusal(actions) == "no_key"


# --- sleep and restarts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asleep", "expires"), [(PERIOD - 1.0, False), (PERIOD + 1.0, True)])
def test_time_for_which_the_machine_slept_counts(asleep: float, expires: bool) -> None:
    device = Device()
    device.join()
    device.wait(0.4)
    device.harness.now += asleep
    device.note(device.harness.give(Timeout()))
    assert device.sends is not expires
    assert bool(device.expired) is expires


def test_crashes_do_not_let_the_time_begin_anew() -> None:
    device = without_master()
    for _ in range(int(PERIOD) - 1):
        device.wait(0.9)
        device.restart(down=0.1)
    assert device.sends
    device.wait(0.9)
    device.restart(down=0.2)
    assert not device.sends
    assert device.expired
    device.restart(down=1.0)
    assert not device.sends


def test_crash_of_a_daemon_with_a_master_lets_the_time_begin() -> None:
    device = Device()
    device.join()
    device.wait(0.4)
    device.restart(down=5.0)
    device.wait(PERIOD - 1.0)
    assert device.sends
    device.wait(1.1)
    assert not device.sends


def test_time_for_which_a_stopped_daemon_does_not_run_counts() -> None:
    device = Device()
    device.join()
    device.harness.give(StopRequested())
    device.restart(down=PERIOD + 1.0)
    assert not device.sends
    device.join(term=2)
    assert device.sends


def test_master_that_was_stopped_for_long_sends_only_when_it_is_master_again() -> None:
    before = NodeHarness(timing=ON).start().become_master()
    before.give(StopRequested())
    again = NodeHarness(saved=before.node.saved_state(), timing=ON)
    again.now = before.now + PERIOD + 1.0
    again.start()
    assert not any(one.send for one in again.node.key_state().entries)
    again.become_master()
    assert any(one.send for one in again.node.key_state().entries)


def test_clock_that_has_gone_back_does_not_postpone_the_expiry_further_than_its_time() -> None:
    device = without_master()
    device.wait(1.0)
    device.restart(down=-50.0)
    device.wait(PERIOD)
    assert not device.sends


# --- reload -----------------------------------------------------------------------------------------------------------


def test_setting_that_is_turned_on_counts_from_then_on_and_off_it_ends_the_expiry() -> None:
    device = without_master(Timing())
    device.wait(10 * PERIOD)
    off = replace(CHANGED, eligible=False, timing=Timing())
    device.note(device.harness.give(replace(off, timing=ON)))
    device.wait(PERIOD - 1.0)
    assert device.sends
    device.wait(1.0)
    assert not device.sends
    device.note(device.harness.give(replace(off, timing=replace(ON, expires_after=4 * PERIOD))))
    assert device.sends, "the time is longer now"
    device.wait(3 * PERIOD)
    assert not device.sends
    device.note(device.harness.give(off))
    assert device.sends
    assert not device.expired
