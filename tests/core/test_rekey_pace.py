"""The first rekey request of a requester is served at once, the next ones less and less often, up to 30 s apart."""

from collections.abc import Iterable
from itertools import pairwise

from pskkey.core.actions import Action, GenerateKey
from pskkey.core.events import Attached, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.notices import KeyRequested, KeyRequestPostponed
from pskkey.core.rekey_requests import CALM, LONGEST_OPERATORS_PAUSE, LONGEST_PAUSE, REQUESTERS
from pskkey.model import Heartbeat, KeyNew, KeyNewReason, KeyWatch, Process
from tests.core.harness import NodeHarness, join, of, sent
from tests.core.situations import HIGH, LOW

BEGAN = KeyNewReason.RECEIVER_BEGAN
USER, OTHER_USER = 1000, 1001


class Requests:
    """The requests of several requesters to one node, and the times at which it made a key."""

    def __init__(self, harness: NodeHarness) -> None:
        self.harness = harness
        self.made: list[float] = []
        self._sessions = 10

    def attach(self, uid: int, *, will_send: bool = False) -> Session:
        """Attach another process of a user."""
        self._sessions += 1
        session = Session(Direction.LOCAL, self._sessions)
        self.note(self.harness.give(Attached(session, Process(self._sessions, uid))))
        self.note(self.harness.receive(session, KeyWatch(will_send, context=self._sessions)))
        return session

    def ask(self, uid: int, reason: KeyNewReason = BEGAN) -> None:
        """Let a process of a user attach, ask and end."""
        session = self.attach(uid)
        self.note(self.harness.receive(session, KeyNew(reason)))
        self.note(self.harness.give(Disconnected(session, "gone")))

    def operator(self) -> None:
        """Ask as the operator."""
        self.note(self.harness.give(RekeyRequested(KeyNewReason.OPERATOR)))

    def member(self, number: int) -> None:
        """Ask as a member."""
        self.note(self.harness.receive(Session(Direction.INBOUND, number), KeyNew(BEGAN)))

    def wait(self, seconds: float) -> None:
        """Let time pass in steps, to note when a key is made."""
        for _ in range(round(seconds * 10)):
            self.note(self.harness.wait(0.1))

    def note(self, actions: Iterable[Action]) -> None:
        """Note the keys that the node made."""
        self.made += [self.harness.now for _ in of(GenerateKey, actions)]


def alone() -> Requests:
    """Return a master without members, some time after its first key."""
    harness = NodeHarness().start().become_master()
    harness.wait(5.0)
    return Requests(harness)


def test_requester_that_asks_every_second_is_served_at_once_and_then_less_and_less_often() -> None:
    it = alone()
    begin = it.harness.now
    for _ in range(120):
        it.ask(USER)
        it.wait(1.0)
    times = [round(at - begin) for at in it.made]
    assert times == [0, 1, 3, 7, 15, 31, 61, 91]
    assert max(b - a for a, b in pairwise(it.made)) <= LONGEST_PAUSE + 0.2, "postponed, and not lost"
    reports = len(of(KeyRequested, it.harness.log)) + len(of(KeyRequestPostponed, it.harness.log))
    assert reports <= 2 * len(times) + 1, "one line for each request"


def test_sender_that_crashes_all_the_time_is_served_at_once_and_then_less_and_less_often() -> None:
    it = alone()
    session = it.attach(USER, will_send=True)
    begin = it.harness.now
    for _ in range(60):
        it.note(it.harness.give(Disconnected(session, "crashed")))
        session = it.attach(USER, will_send=True)
        it.wait(1.0)
    assert [round(at - begin) for at in it.made][:4] == [0, 1, 3, 7]
    assert len(it.made) <= 7


def test_the_requests_of_others_are_not_delayed() -> None:
    it = alone()
    for _ in range(40):
        it.ask(USER)
        it.wait(1.0)
    before = len(it.made)
    it.ask(OTHER_USER)
    assert len(it.made) == before + 1
    it.wait(1.2)
    it.operator()
    assert len(it.made) == before + 2


def test_requests_of_a_member_that_asks_every_second_are_spaced_and_others_are_not() -> None:
    harness = NodeHarness().start().become_master()
    for number, node in enumerate((LOW, HIGH), 1):
        harness.accept(number, join(node))
    it = Requests(harness)
    it.wait(0.5)
    begin, times = harness.now, len(it.made)
    for second in range(40):
        for number, node in enumerate((LOW, HIGH), 1):
            harness.accept(10 + 2 * second + number, join(node))
        it.member(10 + 2 * second + 1)
        it.wait(1.0)
    assert len(it.made) - times <= 6, [at - begin for at in it.made]
    before = len(it.made)
    it.member(10 + 2 * 39 + 2)
    it.wait(1.2)
    assert len(it.made) == before + 1


def test_an_operator_may_rekey_as_often_as_the_group_can() -> None:
    it = alone()
    for _ in range(30):
        it.operator()
        it.wait(1.0)
    assert max(b - a for a, b in pairwise(it.made)) <= LONGEST_OPERATORS_PAUSE + 0.2
    assert len(it.made) >= 25


def test_key_that_is_made_for_another_requester_serves_a_postponed_request() -> None:
    it = alone()
    for _ in range(16):
        it.ask(USER)
        it.wait(1.0)
    before = len(it.made)
    it.ask(USER)
    it.ask(OTHER_USER)
    it.wait(10.0)
    assert len(it.made) == before + 1
    it.wait(20.0)
    assert len(it.made) == before + 1


def test_requester_is_served_at_once_again_after_a_calm_time() -> None:
    it = alone()
    for _ in range(40):
        it.ask(USER)
        it.wait(1.0)
    it.wait(32.0)
    it.harness.wait(6 * CALM)
    begin, it.made[:] = it.harness.now, []
    for _ in range(4):
        it.ask(USER)
        it.wait(1.0)
    assert [round(at - begin) for at in it.made] == [0, 1, 3]


def test_a_client_sends_its_master_no_more_than_its_users_may_ask() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    it = Requests(harness)
    for _ in range(60):
        it.ask(USER)
        harness.receive(session, Heartbeat())
        it.wait(0.2)
    assert len(sent(KeyNew, harness.log)) <= 12.0 / 2.0 + 1, (
        "one request, sent again every 2 s while there is no new key"
    )
    assert harness.view.master_session == session


def test_many_requesters_do_not_starve_another_one() -> None:
    it = alone()
    for uid in range(2 * REQUESTERS):
        it.ask(uid)
    it.wait(2.0)
    before = len(it.made)
    it.ask(5 * REQUESTERS)
    it.wait(1.1)
    assert len(it.made) == before + 1


def test_node_shows_a_pending_request_until_there_is_a_key() -> None:
    it = alone()
    it.ask(USER)
    assert it.harness.node.pending_requests() == [], "a key was made at once"
    it.ask(USER)
    [(reason, due)] = it.harness.node.pending_requests()
    assert (reason, due) == (BEGAN, it.harness.now + 1.0)
    it.wait(1.2)
    assert it.harness.node.pending_requests() == []
