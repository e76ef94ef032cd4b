"""The rules of the election, one by one, at the door of a single node."""

from itertools import pairwise

from pskkey.core.actions import Connect, Disconnect, GenerateKey, NoticeKind
from pskkey.core.events import AdvertRemoved, Attached, Connected, Direction, Disconnected, Process, Session, Timeout
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Merge,
    Role,
)
from tests.core.door import ME, Door, advert, advertised, join, member, notices, of, one, refusal, sent
from tests.core.keys import key

LOW, HIGH = "11111111", "99999999"


def role(door: Door) -> Role:
    return door.node.election.role


# --- listening --------------------------------------------------------------------------------------------------


def test_alone_it_becomes_master_after_the_discovery_window_with_a_fresh_key() -> None:
    door = Door().start()
    assert role(door) is Role.LISTENING
    door.wait(0.99)
    assert role(door) is Role.LISTENING
    actions = door.wait(0.02)
    assert role(door) is Role.MASTER
    assert door.node.election.term == 1
    assert one(GenerateKey, actions)
    assert advertised(actions)[-1] is Role.MASTER


def test_a_better_candidate_gets_one_claim_step_and_two_get_two() -> None:
    door = Door().start()
    door.hear(advert(LOW, Role.LISTENING), advert("22222222", Role.LISTENING), advert(HIGH, Role.LISTENING))
    door.wait(1.59)
    assert role(door) is Role.LISTENING
    door.wait(0.02)
    assert role(door) is Role.MASTER


def test_a_higher_priority_beats_a_lower_id() -> None:
    door = Door(priority=200).start()
    door.hear(advert(LOW, Role.LISTENING, priority=100))
    door.wait(1.01)
    assert role(door) is Role.MASTER


def test_who_is_not_eligible_listens_for_ever_and_joins_when_a_master_comes() -> None:
    door = Door(eligible=False).start()
    door.wait(600.0)
    assert role(door) is Role.LISTENING
    assert of(Connect, door.hear(advert(LOW, Role.MASTER)))


def test_a_masters_advert_is_followed_at_once() -> None:
    door = Door().start()
    connect = one(Connect, door.hear(advert(LOW, Role.MASTER)))
    assert (connect.peer, connect.addresses) == (LOW, ("10.0.0.17",))
    assert role(door) is Role.JOINING


def test_of_several_masters_the_one_that_serves_more_is_joined_first() -> None:
    door = Door().start()
    door.hear(advert(LOW, Role.MASTER, members=2))
    session = one(Connect, door.log).session
    door.hear(advert(HIGH, Role.MASTER, members=5), advert("22222222", Role.MASTER, members=3))
    again = one(Connect, door.give(Disconnected(session, "refused")))
    assert again.peer == HIGH


# --- joining ----------------------------------------------------------------------------------------------------


def test_joining_says_who_we_are_and_group_makes_us_a_client() -> None:
    door = Door().start()
    connect = one(Connect, door.hear(advert(LOW, Role.MASTER, term=4)))
    said = sent(Join, door.give(Connected(connect.session)))
    assert [(j.group, j.member.id, j.held) for j in said] == [("g", ME, ())]
    door.receive(connect.session, Group(4, LOW, (member(LOW), member(ME)), (ME,)))
    assert role(door) is Role.CLIENT
    assert door.node.election.term == 4


def test_a_failed_join_holds_down_longer_each_time_but_is_tried_again_for_ever() -> None:
    door = Door(eligible=False).start()
    door.hear(advert(LOW, Role.MASTER))
    tries = []
    for _ in range(10):
        tries.append(door.now)
        session = of(Connect, door.log)[-1].session
        door.give(Disconnected(session, "connection refused"))
        while len(of(Connect, door.log)) == len(tries):
            door.wait(0.25)
    gaps = [round(b - a) for a, b in pairwise(tries)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_connection_that_never_answers_is_given_up() -> None:
    door = Door(eligible=False).start()
    session = one(Connect, door.hear(advert(LOW, Role.MASTER))).session
    actions = door.wait(10.0)
    assert session in [d.session for d in of(Disconnect, actions)]
    assert notices(NoticeKind.JOIN_FAILED, actions)


def test_a_welcome_from_somebody_else_than_the_one_we_asked_is_not_taken() -> None:
    door = Door().start()
    session = one(Connect, door.hear(advert(LOW, Role.MASTER))).session
    door.give(Connected(session))
    actions = door.receive(session, Group(1, HIGH, (member(HIGH), member(ME)), (ME,)))
    assert role(door) is not Role.CLIENT
    assert notices(NoticeKind.FENCED, actions)


# --- client -----------------------------------------------------------------------------------------------------


def test_a_client_beats_every_half_second_and_misses_its_master_after_one_and_a_half() -> None:
    door = Door().start()
    session = door.become_client()
    beats = sent(Heartbeat, door.wait(1.4))
    assert len(beats) == 2
    door.receive(session, Heartbeat())
    door.wait(1.4)
    assert role(door) is Role.CLIENT
    actions = door.wait(0.2)
    assert notices(NoticeKind.MASTER_LOST, actions)


def test_a_dropped_connection_is_tried_once_more_before_anything_else() -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    again = one(Connect, door.give(Disconnected(session, "reset")))
    assert again.peer == LOW
    assert again.timeout == 0.3


def test_the_first_in_the_succession_takes_over_with_the_same_key_and_a_higher_term() -> None:
    door = Door().start()
    session = door.become_client(HIGH, term=7)
    retry = one(Connect, door.give(Disconnected(session, "reset")))
    actions = door.give(Disconnected(retry.session, "refused"))
    assert role(door) is Role.MASTER
    assert door.node.election.term == 8
    assert not of(GenerateKey, actions)
    current = door.node.keyring.current
    assert current is not None
    assert current.key == key(901)


def test_the_second_in_the_succession_joins_the_first_and_asks_again_while_it_is_not_master_yet() -> None:
    door = Door().start()
    session = door.become_client("22222222")
    retry = one(Connect, door.give(Disconnected(session, "reset")))
    first = one(Connect, door.give(Disconnected(retry.session, "refused")))
    assert first.peer == "22222222"
    door.give(Connected(first.session))
    door.receive(first.session, ErrorMessage("not_master", "not yet"))
    again = one(Connect, door.wait(0.1))
    assert again.peer == "22222222"
    door.give(Disconnected(again.session, "refused"))
    assert role(door) is Role.MASTER, "the first is dead as well: it is our turn"


def test_when_the_first_of_the_succession_still_has_a_master_we_listen_again() -> None:
    door = Door(eligible=False).start()
    session = door.become_client("22222222")
    door.give(Disconnected(session, "reset"))
    door.give(Disconnected(of(Connect, door.log)[-1].session, "no answer"))
    for _ in range(100):
        door.give(Connected(of(Connect, door.log)[-1].session))
        door.receive(of(Connect, door.log)[-1].session, ErrorMessage("not_master", "I have one"))
        if role(door) is Role.LISTENING:
            break
        door.wait(0.06)
    assert role(door) is Role.LISTENING


def test_a_lower_term_is_not_followed() -> None:
    door = Door().start()
    session = door.become_client(term=9)
    actions = door.receive(session, Group(8, LOW, (member(LOW), member(ME)), (ME,)))
    assert notices(NoticeKind.FENCED, actions)
    assert door.node.election.term == 9


def test_a_handover_to_us_makes_us_master_and_one_to_another_sends_us_there() -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    door.receive(session, Handover(member(ME), 2, (member(LOW, sender_id=0), member(ME, sender_id=1))))
    assert role(door) is Role.MASTER
    assert door.node.election.term == 2

    other = Door().start()
    session = other.become_client(HIGH)
    connect = one(Connect, other.receive(session, Handover(member(HIGH), 2)))
    assert connect.peer == HIGH


def test_a_client_acknowledges_a_new_epoch_once() -> None:
    door = Door().start()
    session = door.become_client()
    state = KeyState(1, frozenset({0, 1}), door.node.keyring.wire_entries())
    assert sent(KeyAck, door.log) == [KeyAck(1)]
    assert not sent(KeyAck, door.receive(session, state))


# --- master -----------------------------------------------------------------------------------------------------


def test_a_joiner_is_told_the_group_and_then_the_keys() -> None:
    door = Door().start().become_master()
    actions = door.accept(1, join(LOW))
    group, state = sent(Group, actions)[0], sent(KeyState, actions)[0]
    assert [m.id for m in group.members] == [ME, LOW]
    assert group.succession == (LOW,)
    assert state.sender_id is None, "it has nobody who sends"
    assert [e.send for e in state.entries] == [True]
    kinds = [type(m) for m in sent(object, actions)]
    assert kinds.index(Group) < kinds.index(KeyState)


def test_a_joiner_from_a_higher_term_raises_ours() -> None:
    door = Door().start().become_master()
    actions = door.accept(1, join(LOW, term=41))
    assert sent(Group, actions)[0].term == 42


def test_a_joiner_with_a_foreign_key_makes_a_new_one_above_both() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW, held=(HeldKey(17, "ffffffffffffffff", send=True),)))
    door.wait(1.0)
    coming = door.node.keyring.next
    assert coming is not None
    assert coming.epoch == 18


def test_a_silent_member_is_dropped_and_a_beating_one_is_not() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW))
    door.accept(2, join(HIGH))
    for _ in range(4):
        door.receive(Session(Direction.INBOUND, 2), Heartbeat())
        door.wait(0.5)
    group = door.node.group()
    assert group is not None
    assert [m.id for m in group.members] == [ME, HIGH]


def test_a_second_live_node_with_the_same_id_is_refused_loudly() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW, instance="a"))
    actions = door.accept(2, join(LOW, instance="b"))
    assert refusal(actions) == "duplicate_id"
    assert notices(NoticeKind.DUPLICATE_ID, actions)
    assert refusal(door.accept(3, join(ME))) == "duplicate_id"


def test_the_wrong_group_is_refused() -> None:
    door = Door().start().become_master()
    wrong = Join("other", member(LOW), "i", 0, (), sender=False, lease=None, version="t")
    assert refusal(door.accept(1, wrong)) == "wrong_group"


def test_who_is_not_master_says_so_but_serves_the_key_that_it_holds() -> None:
    door = Door().start()
    assert refusal(door.accept(1, join(LOW))) == "not_master"
    assert refusal(door.accept(2, KeyRequest())) == "no_key"
    door.become_client()
    assert sent(KeyResponse, door.accept(3, KeyRequest())) == [KeyResponse(key(901))]


def test_what_a_client_may_not_say_ends_its_session_only() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW))
    assert refusal(door.accept(2, KeyWatch(will_send=False))) == "protocol"
    assert refusal(door.accept(3, Heartbeat())) == "protocol"
    group = door.node.group()
    assert group is not None
    assert [m.id for m in group.members] == [ME, LOW]


def test_a_master_that_slept_listens_first() -> None:
    door = Door().start().become_master()
    door.now += 30.0
    actions = door.give(Timeout())
    assert notices(NoticeKind.SLEPT, actions)
    assert role(door) is Role.LISTENING


def test_of_two_masters_the_lower_goes_to_the_higher_and_yields_to_more_members() -> None:
    door = Door().start().become_master()
    connect = one(Connect, door.hear(advert(LOW, Role.MASTER, term=3, members=4)))
    question = sent(Merge, door.give(Connected(connect.session)))[0]
    assert (question.members, question.winner) == (1, None)
    actions = door.receive(connect.session, Merge(member(LOW), 3, 4, 6, winner=LOW))
    assert role(door) is Role.JOINING
    assert of(Connect, actions)[-1].peer == LOW


def test_the_asked_master_decides_and_rolls_when_it_stays() -> None:
    door = Door().start().become_master()
    door.accept(1, join("22222222"))
    question = Merge(member(HIGH), term=5, members=1, epoch=8)
    actions = door.accept(2, question)
    answer = sent(Merge, actions)[0]
    assert (answer.winner, answer.term, answer.epoch) == (ME, 5, 8)
    assert door.node.election.term == 6
    door.wait(1.0)
    assert door.node.keyring.highest_epoch == 9


def test_the_asked_master_yields_to_the_larger_side_and_sends_its_clients_there() -> None:
    door = Door().start().become_master()
    door.accept(1, join("22222222"))
    actions = door.accept(2, Merge(member(HIGH), term=5, members=9, epoch=8))
    assert [h.master.id for h in sent(Handover, actions)] == [HIGH]
    assert role(door) is Role.JOINING


def test_our_own_id_in_anothers_advert_is_reported() -> None:
    door = Door().start()
    assert notices(NoticeKind.DUPLICATE_ID, door.hear(advert(ME, Role.LISTENING)))


def test_a_node_that_said_goodbye_is_no_candidate_any_more() -> None:
    door = Door().start()
    door.hear(advert(LOW, Role.LISTENING))
    door.give(AdvertRemoved(LOW))
    door.wait(1.01)
    assert role(door) is Role.MASTER


# --- session managers of this node ------------------------------------------------------------------------------

LOCAL = Session(Direction.LOCAL, 1)
OTHER = Session(Direction.LOCAL, 2)


def test_a_watcher_is_told_the_state_at_once_and_when_it_changes() -> None:
    door = Door().start()
    door.give(Attached(LOCAL, Process(10, 0, 1)))
    first = sent(KeyState, door.receive(LOCAL, KeyWatch(will_send=True)))
    assert [(s.sender_id, s.entries) for s in first] == [(None, ())]
    later = sent(KeyState, door.wait(1.5))
    assert later[-1].sender_id is not None
    assert [e.send for e in later[-1].entries] == [True]


def test_a_restarted_sender_receives_at_once_and_sends_from_the_next_epoch_on() -> None:
    door = Door().start().become_master()
    door.give(Attached(LOCAL, Process(10, 0, 1)))
    assert sent(KeyState, door.receive(LOCAL, KeyWatch(will_send=True)))[-1].entries[0].send
    door.give(Disconnected(LOCAL, "gone"))
    door.wait(2.0)
    door.give(Attached(OTHER, Process(11, 0, 2)))
    states = sent(KeyState, door.receive(OTHER, KeyWatch(will_send=True)))
    assert not any(e.send for e in states[0].entries)
    states += sent(KeyState, door.wait(1.0))
    assert [e.epoch for e in states[-1].entries if e.send] == [2]


def test_a_sender_that_reconnects_goes_on_and_a_second_one_may_only_receive() -> None:
    door = Door().start().become_master()
    for session in (LOCAL, Session(Direction.LOCAL, 3)):
        door.give(Attached(session, Process(10, 0, 1)))
        assert sent(KeyState, door.receive(session, KeyWatch(will_send=True)))[-1].entries[0].send
    door.give(Attached(OTHER, Process(11, 0, 2)))
    actions = door.receive(OTHER, KeyWatch(will_send=True))
    assert not sent(KeyState, actions)[-1].entries[0].send
    assert notices(NoticeKind.SECOND_SENDER, actions)


def test_a_new_key_waits_for_the_session_manager_that_acknowledges() -> None:
    door = Door().start().become_master()
    door.give(Attached(LOCAL, Process(10, 0, 1)))
    door.receive(LOCAL, KeyWatch(will_send=True), KeyAck(1))
    door.wait(2.0)
    door.receive(LOCAL, KeyNew(KeyNewReason.OPERATOR))
    assert door.node.keyring.next is not None
    door.wait(4.9)
    assert door.node.keyring.next is not None
    door.receive(LOCAL, KeyAck(2))
    current = door.node.keyring.current
    assert current is not None
    assert current.epoch == 2
