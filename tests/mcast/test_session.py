"""A member's session: its keys, its records, and its requests."""

from dataclasses import replace

import pytest

from pskkey.mcast import CannotSend, GroupSession, Need, RecordProtection
from pskkey.mcast.record import SEQUENCE_LIMIT, read_header_untrusted
from pskkey.model import Key, KeyEntry, KeyState, Suite
from tests.mcast.vectors import group_key, key_state


def entry(epoch: int, *, send: bool = False, receive: bool = True, key: Key | None = None) -> KeyEntry:
    return KeyEntry(epoch=epoch, key=key or group_key(epoch % 256), send=send, receive=receive)


def member(state: KeyState, **options: bool | int) -> tuple[GroupSession, list[Need]]:
    needs: list[Need] = []
    session = GroupSession(needs.append, **options)  # type: ignore[arg-type]
    session.apply(state)
    return session, needs


def number_of(datagram: bytes) -> int:
    return read_header_untrusted(datagram)[1]


@pytest.mark.parametrize("suite", list(Suite))
def test_two_members_understand_each_other(suite: Suite) -> None:
    only = entry(7, send=True, key=group_key(1, suite))
    one, _ = member(key_state(1, only))
    two, _ = member(key_state(2, only))
    for sequence in range(100):
        message = two.receive(one.send(b"%d" % sequence))
        assert message == (1, 7, sequence, b"%d" % sequence)
        assert one.receive(two.send(b"back")) == (2, 7, sequence, b"back")
    assert one.counters == {"sent": 100, "received": 100}


def test_no_datagram_is_lost_through_a_rekey_in_any_order() -> None:
    """Members learn of each step of a rekey at different times; every record sent in between is received."""
    old, new = entry(1), entry(2)
    steps = [
        key_state(None, replace(old, send=True)),
        key_state(None, replace(old, send=True), new),
        key_state(None, old, replace(new, send=True)),
        key_state(None, replace(new, send=True)),
    ]
    sessions = {1: GroupSession(), 2: GroupSession()}
    for sender_id, session in sessions.items():
        session.apply(replace(steps[0], sender_id=sender_id))
    for step in steps[1:]:
        for sender_id, session in sessions.items():
            session.apply(replace(step, sender_id=sender_id))
            for here, there in ((1, 2), (2, 1)):
                assert sessions[there].receive(sessions[here].send(b"x")) is not None
    assert sessions[1].send_epoch == 2
    assert sessions[1].epochs == (2,)


def test_record_of_a_dropped_epoch_is_refused() -> None:
    one, _ = member(key_state(1, entry(1, send=True)))
    two, needs = member(key_state(2, entry(1, send=True)))
    late = one.send(b"late")
    two.apply(key_state(2, entry(2, send=True)))
    assert two.receive(late) is None
    assert two.counters["unknown_epoch"] == 1
    assert needs == []


def test_each_epoch_keeps_its_own_sequence() -> None:
    session, _ = member(key_state(1, entry(1, send=True), entry(2)))
    numbers = [number_of(session.send(b"")) for _ in range(3)]
    session.apply(key_state(1, entry(1), entry(2, send=True)))
    numbers += [number_of(session.send(b"")) for _ in range(3)]
    session.apply(key_state(1, entry(1, send=True), entry(2)))
    numbers += [number_of(session.send(b"")) for _ in range(3)]
    session.apply(key_state(9, entry(1, send=True), entry(2)))
    numbers += [number_of(session.send(b"")) for _ in range(3)]
    session.apply(key_state(1, entry(1, send=True)))
    numbers += [number_of(session.send(b"")) for _ in range(3)]
    session.apply(key_state(None))
    session.apply(key_state(1, entry(1, send=True)))
    numbers += [number_of(session.send(b"")) for _ in range(3)]
    assert len(set(numbers)) == len(numbers)
    assert numbers[-1] == 1 << 48 | 1 << 40 | 11


def test_the_same_epoch_of_another_key_starts_anew() -> None:
    session, _ = member(key_state(1, entry(1, send=True)))
    session.send(b"")
    other = group_key(77)
    session.apply(key_state(1, entry(1, send=True, key=other)))
    assert RecordProtection(other, 1).open(session.send(b"x")) == (1, 0, b"x")


def test_a_replay_is_refused_also_after_the_key_came_back() -> None:
    one, _ = member(key_state(1, entry(1, send=True)))
    two, _ = member(key_state(2, entry(1, send=True)))
    datagram = one.send(b"once")
    assert two.receive(datagram) is not None
    assert two.receive(datagram) is None
    two.apply(key_state(2))
    two.apply(key_state(2, entry(1, send=True)))
    assert two.receive(datagram) is None
    assert two.counters["replay"] == 2


def test_a_forged_record_does_not_move_the_window() -> None:
    one, _ = member(key_state(1, entry(1, send=True)))
    two, _ = member(key_state(2, entry(1, send=True)))
    genuine = one.send(b"genuine")
    forged = genuine[:6] + (1 << 39).to_bytes(5) + genuine[11:]
    assert two.receive(forged) is None
    assert two.counters["authentication"] == 1
    assert two.receive(genuine) is not None


def test_every_reason_of_a_drop_is_counted() -> None:
    only = entry(7, send=True)
    session, _ = member(key_state(2, only))
    protection = RecordProtection(only.key, 7)
    good = protection.seal(1, 0, b"x")
    assert session.receive(good) is not None
    refused = {
        "malformed": [b"", good[:-1], good + b"\0", good[:3] + b"\0\0" + good[5:], b"\x17\xfe\xff" + good[3:]],
        "unknown_epoch": [good[:3] + b"\0\x06" + good[5:]],
        "not_application_data": [protection.seal(1, 1, b"\x01\0", content_type=21), b"\x16" + good[1:]],
        "own": [protection.seal(2, 0, b"x")],
        "unknown_sender": [protection.seal(9, 0, b"x")],
        "replay": [good],
        "authentication": [protection.seal(1, 1, b"x")[:-1] + b"\0", good[:10] + b"\x09" + good[11:]],
    }
    for datagrams in refused.values():
        assert [session.receive(datagram) for datagram in datagrams] == [None] * len(datagrams)
    assert session.counters == {"received": 1} | {reason: len(datagrams) for reason, datagrams in refused.items()}


def test_own_records_are_delivered_on_request() -> None:
    session, _ = member(key_state(1, entry(1, send=True)), own_records=True)
    datagram = session.send(b"mine")
    assert session.receive(datagram) == (1, 1, 0, b"mine")
    assert session.receive(datagram) is None


def test_records_of_a_former_sender_id_are_our_own() -> None:
    session, _ = member(key_state(1, entry(1, send=True)))
    datagram = session.send(b"mine")
    session.apply(key_state(3, entry(1, send=True)))
    assert session.receive(datagram) is None
    assert session.counters["own"] == 1


def test_our_former_sender_id_may_be_another_members_after_a_merge() -> None:
    own, other = entry(3), entry(4)  # the keys of two partitions
    us, _ = member(key_state(2, replace(own, send=True)))
    us.apply(key_state(2, replace(own, send=True), other))  # we have yielded, and still send with our former key
    us.apply(key_state(3, own, replace(other, send=True)))
    them, _ = member(key_state(2, replace(other, send=True)))
    assert us.receive(them.send(b"x")) == (2, 4, 0, b"x")


def test_a_sender_once_listed_is_known_until_the_epoch_ends() -> None:
    only = entry(1, send=True)
    session, needs = member(key_state(1, only))
    protection = RecordProtection(only.key, 1)
    session.apply(key_state(1, only, senders=frozenset({1})))
    assert session.receive(protection.seal(2, 0, b"x")) is not None
    assert needs == []
    session.apply(key_state(1, entry(2, send=True), senders=frozenset({1})))
    assert session.receive(RecordProtection(group_key(2), 2).seal(2, 0, b"x")) is None
    assert needs == [Need.KEY_STATE]


def test_unlisted_sender_is_received_on_request() -> None:
    only = entry(1, send=True)
    session, needs = member(key_state(1, only, senders=frozenset()), any_sender=True)
    datagram = RecordProtection(only.key, 1).seal(9, 5, b"x")
    assert session.receive(datagram[:-1] + b"\0") is None
    assert session.receive(datagram) == (9, 1, 5, b"x")
    assert session.receive(datagram) is None
    assert session.counters == {"authentication": 1, "received": 1, "replay": 1}
    assert needs == [Need.KEY_STATE]


def test_a_newer_epoch_asks_for_the_state_at_a_limited_rate() -> None:
    session, needs = member(key_state(1, entry(10, send=True)))

    def stranger(epoch: int) -> bytes:
        return RecordProtection(group_key(5), epoch).seal(2, 0, b"x")

    session.receive(stranger(9), now=100.0)
    assert needs == []
    for tick in range(40):
        session.receive(stranger(11 + tick), now=100.0 + tick * 0.1)
    assert needs == [Need.KEY_STATE] * 4
    assert session.counters["unknown_epoch"] == 41


def test_the_epoch_after_65535_is_newer() -> None:
    session, needs = member(key_state(1, entry(65535, send=True)))
    session.receive(RecordProtection(group_key(5), 1).seal(2, 0, b"x"))
    assert needs == [Need.KEY_STATE]


def test_high_water_mark_asks_once_for_each_key_and_the_sequence_limit_holds() -> None:
    session, needs = member(key_state(1, entry(1, send=True)), high_water=5, sequence_limit=8)
    for _ in range(4):
        session.send(b"")
    assert needs == []
    numbers = {number_of(session.send(b"")) for _ in range(4)}
    assert needs == [Need.NEW_KEY]
    with pytest.raises(CannotSend, match="used up"):
        session.send(b"")
    assert max(numbers) & 0xFF_FFFF_FFFF == 7
    session.apply(key_state(1, entry(1), entry(2, send=True)))
    for _ in range(5):
        session.send(b"")
    assert needs == [Need.NEW_KEY] * 2


def test_no_limit_goes_over_the_size_of_the_field() -> None:
    with pytest.raises(ValueError, match="2\\^40"):
        GroupSession(sequence_limit=SEQUENCE_LIMIT + 1)
    with pytest.raises(ValueError, match="2\\^40"):
        GroupSession(high_water=9, sequence_limit=8)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (key_state(1), "no key"),
        (key_state(1, entry(1), entry(2)), "receive-only"),
        (key_state(None, entry(1, send=True)), "no sender id"),
    ],
)
def test_refusal_to_send_states_the_reason(state: KeyState, reason: str) -> None:
    session, _ = member(state)
    assert session.send_epoch is None
    with pytest.raises(CannotSend, match=reason):
        session.send(b"x")
    assert session.counters["sent"] == 0


def test_receive_only_still_receives_and_send_only_does_not() -> None:
    session, _ = member(key_state(1, entry(1), entry(2, send=True, receive=False)))
    assert session.epochs == (1,)
    assert session.receive(RecordProtection(group_key(1), 1).seal(2, 0, b"x")) is not None
    assert session.receive(RecordProtection(group_key(2), 2).seal(2, 0, b"x")) is None


@pytest.mark.parametrize("entries", [(entry(1), entry(1, send=True)), (entry(1, send=True), entry(2, send=True))])
def test_a_state_that_contradicts_itself_changes_nothing(entries: tuple[KeyEntry, ...]) -> None:
    session, _ = member(key_state(1, entry(5, send=True)))
    with pytest.raises(ValueError, match="key state"):
        session.apply(key_state(2, *entries))
    assert session.sender_id == 1
    assert session.send_epoch == 5


def test_records_from_before_a_session_began_are_not_delivered_to_it() -> None:
    """A stranger sends recorded datagrams to a receiver with empty replay windows. Once, 5 of 5 were delivered."""
    sender, _ = member(key_state(1, entry(1, send=True)))
    recorded = [sender.send(b"open valve %d" % n) for n in range(5)]
    earlier = frozenset({(1, group_key(1).fingerprint)})
    session = GroupSession(earlier_keys=earlier)
    assert session.apply(key_state(2, entry(1, send=True))) == (), "a key that is not received with is not acknowledged"
    assert (session.is_deaf, session.is_hearing, session.epochs) == (True, False, ())
    assert [session.receive(datagram) for datagram in recorded] == [None] * 5
    assert session.counters["earlier_key"] == 5
    assert session.send(b"we may send")
    assert session.send_epoch == 1

    assert session.apply(key_state(2, entry(1, send=True), entry(2))) == (2,)
    assert not session.is_deaf
    assert not session.is_hearing, "the group still sends with the earlier key"
    session.apply(key_state(2, entry(1), entry(2, send=True)))
    sender.apply(key_state(1, entry(1), entry(2, send=True)))
    assert session.is_hearing
    assert session.receive(sender.send(b"now")) == (1, 2, 0, b"now")
    assert [session.receive(datagram) for datagram in recorded] == [None] * 5


def test_an_earlier_key_is_known_by_its_fingerprint_too() -> None:
    session = GroupSession(earlier_keys=frozenset({(1, group_key(1).fingerprint)}))
    assert session.apply(key_state(2, entry(1, send=True, key=group_key(9)))) == (1,), "a group that began anew"


def test_session_without_a_new_key_receives_with_the_earlier_keys_in_the_end() -> None:
    session = GroupSession(earlier_keys=frozenset({(1, group_key(1).fingerprint)}))
    session.apply(key_state(2, entry(1, send=True)))
    assert session.receive_with_earlier_keys() == (1,)
    assert session.receive_with_earlier_keys() == (), "they are acknowledged once"
    sender, _ = member(key_state(1, entry(1, send=True)))
    assert session.receive(sender.send(b"x")) is not None
    assert session.apply(key_state(2, entry(1, send=True))) == ()
