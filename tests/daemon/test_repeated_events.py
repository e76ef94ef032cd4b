"""Events that others repeat cause few entries, and each event is counted in exactly one entry."""

import random
from collections.abc import Callable

import pytest

from pskkey.daemon.event_kinds import DaemonEvent, Fields, NodeEvent
from pskkey.daemon.repeated_events import ADDRESSES_PER_NETWORK, INTERVAL, MAX_SOURCES, RepeatedEvents

FAILED, ANSWERED = DaemonEvent.AUTHENTICATION_FAILED, NodeEvent.KEY_REQUEST_ANSWERED


class Log:
    """The entries with their times. The test sets the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entries: list[tuple[float, NodeEvent | DaemonEvent, str, Fields]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.events = RepeatedEvents(
            lambda event, text, fields: self.entries.append((self.now, event, text, fields)),
            lambda seconds, function: self.timers.append((self.now + seconds, function)),
        )

    def fail(
        self,
        address: str,
        identity: str = "x",
        event: NodeEvent | DaemonEvent = FAILED,
        direction: str = "in",
        code: str = "wrong_key",
    ) -> None:
        fields = {"address": address, "identity": identity, "direction": direction, "code": code}
        self.events.add(event, f"{address} failed with {identity}", fields)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = end

    def counts(self, event: NodeEvent | DaemonEvent = FAILED) -> list[tuple[object, object]]:
        """Return address and number of each entry of an event."""
        return [(fields.get("address"), fields["count"]) for _, kind, _, fields in self.entries if kind is event]


@pytest.fixture
def log() -> Log:
    return Log()


def test_first_event_is_logged_at_once_as_it_is(log: Log) -> None:
    log.fail("192.0.2.1")
    fields = {"address": "192.0.2.1", "identity": "x", "direction": "in", "code": "wrong_key", "count": 1}
    assert log.entries == [(0.0, FAILED, "192.0.2.1 failed with x", fields)]
    log.pass_time(10 * INTERVAL)
    assert len(log.entries) == 1
    assert log.timers == [], "nothing is counted, so nothing is due"


def test_further_events_of_a_source_are_one_entry_with_their_number_and_the_last_of_them(log: Log) -> None:
    for identity in ("a", "b", "c", "d"):
        log.fail("192.0.2.1", identity)
        log.pass_time(1.0)
    log.pass_time(INTERVAL)
    assert log.counts() == [("192.0.2.1", 1), ("192.0.2.1", 3)]
    at, _, text, fields = log.entries[1]
    assert (at, text, fields["identity"]) == (INTERVAL, "192.0.2.1 failed with d (3 more in 60 s)", "d")


def test_source_that_goes_on_causes_one_entry_in_each_interval(log: Log) -> None:
    for _ in range(100):
        log.fail("192.0.2.1")
        log.pass_time(INTERVAL / 10)
    assert log.counts() == [("192.0.2.1", 1), ("192.0.2.1", 9), *[("192.0.2.1", 10)] * 9]
    log.pass_time(2 * INTERVAL)
    log.fail("192.0.2.1")
    assert log.counts()[-1] == ("192.0.2.1", 1), "after a quiet interval it is a first event again"


def test_each_kind_of_event_is_counted_on_its_own(log: Log) -> None:
    log.fail("192.0.2.1")
    log.fail("192.0.2.1", event=ANSWERED)
    assert (log.counts(), log.counts(ANSWERED)) == ([("192.0.2.1", 1)], [("192.0.2.1", 1)])


def test_few_addresses_of_one_64_network_are_sources_and_all_others_are_one(log: Log) -> None:
    own = [f"2001:db8::{number}" for number in range(1, ADDRESSES_PER_NETWORK + 1)]
    for address in (*own, "2001:db8::a", "2001:db8::b", "2001:db8::c", own[0], "2001:db8:0:1::1"):
        log.fail(address)
    assert log.counts() == [(address, 1) for address in (*own, "2001:db8::a", "2001:db8:0:1::1")]
    log.pass_time(INTERVAL)
    assert log.counts()[6:] == [(own[0], 1), ("2001:db8::c", 2)]


def test_link_local_hosts_of_two_interfaces_are_two_sources(log: Log) -> None:
    log.fail("fe80::a%eth0")
    log.fail("fe80::a%eth1")
    assert log.counts() == [("fe80::a%eth0", 1), ("fe80::a%eth1", 1)]


def test_wrong_key_is_not_hidden_by_frequent_events_of_another_code(log: Log) -> None:
    for number in range(1000):
        log.fail(f"10.0.{number // 256}.{number % 256}", code="unknown_identity")
    log.fail("10.0.0.1", identity="group", code="wrong_key")
    log.fail("10.0.0.1", code="unknown_identity")
    (found,) = [fields for *_, fields in log.entries if fields["code"] == "wrong_key"]
    assert (found["address"], found["identity"]) == ("10.0.0.1", "group")
    log.pass_time(INTERVAL)
    others = [fields for *_, fields in log.entries if "address" not in fields]
    assert [(fields["code"], fields["count"]) for fields in others] == [("unknown_identity", 1000 - MAX_SOURCES)]


def test_impostor_to_which_this_node_connects_is_not_hidden_by_clients(log: Log) -> None:
    for number in range(100):
        log.fail(f"10.0.0.{number}", direction="in")
    log.fail("10.0.0.200", direction="out")
    assert log.counts()[-1] == ("10.0.0.200", 1)


def test_sources_beyond_the_limit_are_one_entry_and_get_their_own_in_the_next_interval(log: Log) -> None:
    for number in range(MAX_SOURCES + 10):
        log.fail(f"10.0.0.{number}")
    log.pass_time(INTERVAL)
    assert log.counts() == [*((f"10.0.0.{number}", 1) for number in range(MAX_SOURCES)), (None, 10)]
    assert log.entries[-1][2].endswith("10 more from other addresses in 60 s")
    log.fail("10.9.9.9")
    assert log.counts()[-1] == ("10.9.9.9", 1)


def test_sources_that_all_go_on_make_room_after_an_interval_with_others(log: Log) -> None:
    for number in [*range(MAX_SOURCES + 1), *range(MAX_SOURCES)]:
        log.fail(f"10.0.0.{number}")
    log.pass_time(INTERVAL)
    log.fail("10.9.9.9")
    assert log.counts()[-1] == ("10.9.9.9", 1)


def test_counted_events_are_logged_at_the_end(log: Log) -> None:
    for _ in range(5):
        log.fail("192.0.2.1")
    log.events.flush()
    assert log.counts() == [("192.0.2.1", 1), ("192.0.2.1", 4)]
    log.events.flush()
    assert len(log.entries) == 2


@pytest.mark.parametrize("addresses", [1, 5, MAX_SOURCES, MAX_SOURCES + 1, 1000])
def test_entries_of_a_minute_are_bounded_and_their_numbers_add_up(log: Log, addresses: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(5000):
        log.fail(f"10.0.{chance.randrange(addresses) // 256}.{chance.randrange(addresses) % 256}")
        log.pass_time(chance.expovariate(10.0))
    times = [at for at, *_ in log.entries]
    in_a_minute = max(sum(0 <= other - at < INTERVAL for other in times) for at in times)
    # First events, then the end of their interval, and then the first events of the next one.
    assert in_a_minute <= 3 * MAX_SOURCES + 1
    assert len(times) <= (log.now / INTERVAL + 1) * (2 * MAX_SOURCES + 1)
    log.events.flush()
    assert sum(int(str(count)) for _, count in log.counts()) == 5000
