"""For whom a key waits, and what is still read meanwhile: what seeds of the simulator have shown, in a few events."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Disconnected, RekeyRequested, Session
from pskkey.model import Group, HeldKey, KeyNewReason, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import HIGH, LOW, OTHER, acked, sending, state


def beside_another_half(harness: NodeHarness, *others: str) -> Session:
    """Let a member of LOW's group, which HIGH is in too, lose LOW and come to OTHER, which serves `others`."""
    session = harness.become_client(HIGH, OTHER)
    one(Connect, harness.give(Disconnected(session, "reset")))
    harness.wait(0.2)
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, harness.log)[-1]
    assert new.peer == OTHER
    harness.give(Connected(new.session))
    ids = (OTHER, *others, ME)
    told = Group(2, OTHER, tuple(member(i, sender_id=n) for n, i in enumerate(ids)), tuple(sorted(ids[1:])))
    harness.receive(new.session, told, state(entry(1, 902)))
    assert harness.view.sends_former_key
    return new.session


# --- a takeover: seeds 2200, 3049, 8626, 8128 -------------------------------------------------------------------


@pytest.mark.parametrize("last_group", [(HIGH,), ()], ids=["which was whole", "to which not all had come yet"])
def test_who_takes_over_with_its_own_halfs_key_waits_for_the_rest_of_its_half(last_group: tuple[str, ...]) -> None:
    harness = NodeHarness().start()
    session = beside_another_half(harness, *last_group)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(2.1)
    assert sending(harness.view) == 1, "HIGH was with us and may come"
    harness.wait(0.3)
    assert sending(harness.view) != 1


# --- members that are not there: seed 5171 ----------------------------------------------------------------------


def test_who_fell_silent_may_have_noticed_later_than_we_and_is_waited_for_as_long_as_after_a_takeover() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(0.4)
    assert not harness.members
    harness.wait(2.0)
    assert sending(harness.view) == 1
    harness.accept(2, join(LOW))
    acked(harness, 2, 2)
    assert sending(harness.view) == 2


def test_who_comes_back_with_a_key_that_is_on_its_way_does_not_put_it_off() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.2)
    stranger = HeldKey(1, key(801).fingerprint, send=True)
    harness.accept(1, join(LOW, held=(stranger,)))
    coming = harness.view.next
    assert coming is not None
    harness.wait(1.2)
    harness.accept(2, join(LOW, held=(stranger, HeldKey(coming.epoch, coming.key.fingerprint, send=False))))
    harness.wait(0.2)
    assert harness.view.next == coming


# --- halves that come over one by one: seeds 2910, 4347, 4705 ---------------------------------------------------


def test_everybody_is_told_when_a_joiner_has_the_keys() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(0.3)
    before = len(harness.log)
    for _ in range(2):
        acked(harness, 1, 1)
        harness.wait(0.3)
    (told,) = sent(Group, harness.log[before:])  # the second time it is no news
    assert next(m.acked_epoch for m in told.members if m.id == LOW) == 1


def test_an_epoch_is_not_given_out_twice_however_far_others_are_ahead() -> None:
    ring = empty_ring()
    ring.lead(0.0)
    given = []
    for n, above in enumerate((0, 0, 30_000, 60_000, 65_533)):  # the last two look like those of before a wrap
        ring.install_fresh(key(900 + n), 2.0 * n, above)
        ring.activate(2.0 * n + 0.1)
        assert ring.newest is not None
        given.append(ring.newest.epoch)
    assert given == [1, 2, 30_001, 60_001, 65_534]
