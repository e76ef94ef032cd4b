"""The reasons for which a master makes a new key, and the times at which it does (`core/rekey.py`)."""

from dataclasses import replace
from itertools import pairwise

import pytest

from pskkey.config.notes import HELD_FOR_INTERVALS
from pskkey.core.departures import Departures
from pskkey.core.events import Attached, Direction, RekeyRequested, Session
from pskkey.core.keyring import Keyring
from pskkey.core.notices import SuiteChanged
from pskkey.core.rekey import Reason, Rekey
from pskkey.core.rekey_requests import RekeyRequests, local_user
from pskkey.core.settings import Settings, Timing
from pskkey.model import MAX_EPOCH, KeyAck, KeyNewReason, KeyWatch, Member, Process, Suite
from tests.core.harness import NodeHarness, of
from tests.core.keys import entry, key
from tests.core.situations import CHANGED, state


class Master:
    """The key ring of a master with what makes its keys."""

    def __init__(self, timing: Timing | None = None, epoch: int = 0) -> None:
        me = Member("0badcafe", "n", (), 1, 100, eligible=True)
        self.settings = Settings("g", me, "i", "n", timing=timing or Timing())
        self.ring = Keyring(self.settings)
        if epoch:
            self.ring.adopt(state(entry(epoch, 900, send=True)), 0.0)
        self.ring.begin_to_lead(0.0)
        self.requests = RekeyRequests(self.settings, self.ring)
        self.rekey = Rekey(self.settings, self.ring, self.requests, Departures(self.settings, self.ring, ()))
        self.made = 0

    def step(self, now: float, *, activate: bool = True) -> set[Reason]:
        """Make a key if one is due; return why."""
        reasons = self.rekey.starts(now)
        if reasons:
            assert not self.rekey.starts(now), "one reason makes one key"
            self.made += 1
            self.rekey.install(replace(key(self.made), suite=self.settings.suite), now)
            if activate:
                self.ring.activate(now)
        return reasons


def test_first_key_is_made_at_once_and_no_other_without_an_interval() -> None:
    master = Master(Timing(rekey_interval=0.0))
    assert master.step(0.0) == {Reason.FIRST}
    assert not master.step(100.0)
    assert master.rekey.next_deadline(100.0) is None


def test_requests_of_one_second_make_one_key() -> None:
    master = Master()
    master.step(0.0)
    made, now = [], 0.0
    while now < 20.0:
        for user in range(200):
            master.requests.ask(local_user(user), KeyNewReason.OPERATOR, now)
        if master.step(now):
            made.append(now)
        assert len(master.ring.entries) <= 3
        now = round(now + 0.1, 1)
    assert made
    assert all(b - a >= 1.0 for a, b in pairwise(made))


def test_interval_makes_a_key_up_to_a_tenth_earlier_by_chance() -> None:
    dues = set()
    for chance in range(0, 256, 5):
        master = Master(Timing(rekey_interval=60.0))
        assert master.rekey.starts(0.0)
        master.rekey.install(replace(key(1), server_random=bytes([chance]) * 32), 0.0)
        due = master.rekey.next_deadline(0.0)
        assert due is not None
        assert 54.0 <= due <= 60.0
        dues.add(due)
        assert not master.step(due - 0.1)
        assert master.step(due) == {Reason.INTERVAL}
    assert len(dues) > 50


def test_periodic_rekeys_hold_an_old_key_for_1_8_intervals() -> None:
    """`pskkeyctl check-config` computes with this number, for the keys that a rekey replaces the soonest."""
    interval = 100.0
    held = []
    for chance in (255, 0):
        master = Master(Timing(rekey_interval=interval, retire_after=3600.0))
        now, replaced_at = 0.0, None
        while master.made < 2 or 1 in master.ring.live_epochs:
            assert master.rekey.starts(now)
            master.made += 1
            master.rekey.install(replace(key(master.made), server_random=bytes([chance]) * 32), now)
            master.ring.activate(now)
            if master.made == 2:
                replaced_at = now
            following = master.rekey.next_deadline(now)
            assert following is not None
            now = following
        assert replaced_at is not None
        held.append((master.ring.current.since - replaced_at) / interval if master.ring.current else 0.0)
    assert held == pytest.approx([HELD_FOR_INTERVALS, 2.0], abs=0.01)


def test_next_key_is_replaced_for_each_group_that_merges_until_its_deadline_is_over() -> None:
    """Seed 1155: a third group waited for the deadline of a key that its members could not install."""
    master = Master(Timing(activation_deadline=5.0))
    master.step(0.0)
    for made, foreign in ((2.0, 1), (3.0, 2), (4.0, 9), (6.9, 10)):
        master.rekey.go_above(foreign)
        assert master.step(made, activate=False) == {Reason.ABOVE}
    assert [e.epoch for e in master.ring.entries] == [1, 11]
    master.rekey.go_above(20)
    assert not master.step(7.9), "otherwise joiners with ever higher epochs keep it from its activation"
    master.ring.activate(8.0)
    assert master.step(8.0, activate=False) == {Reason.ABOVE}
    master.rekey.go_above(30)
    assert master.step(12.9) == {Reason.ABOVE}
    assert [e.epoch for e in master.ring.entries] == [1, 11, 31]


def test_next_key_of_the_last_master_is_replaced_until_the_deadline_of_the_new_one() -> None:
    master = Master(Timing(activation_deadline=5.0))
    master.ring.adopt(state(entry(1, 900, send=True), entry(2, 1)), 100.0)
    master.ring.begin_to_lead(100.0)
    master.rekey.begin(100.0)
    master.rekey.go_above(2)
    assert master.rekey.reasons(104.9) == {Reason.ABOVE}
    assert not master.rekey.reasons(105.0)


def test_epoch_above_a_foreign_one_wraps_after_the_last_one() -> None:
    master = Master(epoch=MAX_EPOCH)
    master.rekey.go_above(MAX_EPOCH - 9)
    assert not master.step(1.0)
    master.rekey.go_above(1)
    assert master.step(1.0) == {Reason.ABOVE}
    assert [e.epoch for e in master.ring.entries] == [MAX_EPOCH, 2]


def test_another_suite_makes_one_key_of_that_suite() -> None:
    master = Master()
    master.step(0.0)
    master.settings.suite = Suite.WDM_WITH_NULL_SHA256
    assert master.step(2.0) == {Reason.SUITE}
    assert not master.step(30.0)


def test_interval_and_suite_wait_while_a_key_is_on_its_way() -> None:
    master = Master(Timing(rekey_interval=60.0))
    master.step(0.0)
    master.rekey.go_above(1)
    master.step(2.0, activate=False)
    master.settings.suite = Suite.WDM_WITH_NULL_SHA256
    assert not master.step(90.0)
    master.ring.activate(90.0)
    assert master.step(90.0) == {Reason.SUITE}


def test_foreign_epochs_of_an_earlier_mastership_are_forgotten() -> None:
    master = Master()
    master.step(0.0)
    master.rekey.go_above(7)
    master.rekey.begin(0.0)
    assert not master.step(2.0)


# --- the suite, at a node ---------------------------------------------------------------------------------------------


def test_another_suite_causes_one_rekey() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.5)
    harness.give(replace(CHANGED, suite=Suite.PSK_CHACHA20_POLY1305))
    assert harness.view.next is None, "the current key has that suite"
    actions = harness.give(replace(CHANGED, suite=Suite.WDM_WITH_NULL_SHA256))
    assert of(SuiteChanged, actions)[0].configured is Suite.WDM_WITH_NULL_SHA256
    actions += harness.wait(20.0)
    assert len(of(SuiteChanged, actions)) == 1
    assert harness.view.current is not None
    assert harness.view.current.key.suite is Suite.WDM_WITH_NULL_SHA256


def test_another_suite_waits_for_a_next_key_of_the_former_suite() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.5)
    harness.give(Attached(Session(Direction.LOCAL, 1), Process(1, 0)))
    harness.receive(Session(Direction.LOCAL, 1), KeyWatch(will_send=True, context=1), KeyAck(1))
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert harness.view.next is not None, "the session manager has not installed it"
    harness.give(replace(CHANGED, suite=Suite.WDM_WITH_NULL_SHA256))
    harness.wait(1.5)
    assert harness.keys == 2
    harness.receive(Session(Direction.LOCAL, 1), KeyAck(2))
    harness.wait(0.5)
    assert harness.keys == 3
