"""Others can cause only few log lines, and a new event is never lost among them."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest

from pskkey.adapters.complaints import Complaints, network_of
from pskkey.daemon.event_kinds import DaemonEvent, NodeEvent
from pskkey.daemon.event_table import EVENTS
from pskkey.daemon.journal import Journal
from pskkey.daemon.log_budget import MAX_LINE, REPORT_AFTER, LogBudget
from pskkey.daemon.logs import PlainFormatter
from pskkey.daemon.repeated_events import INTERVAL, MAX_SOURCES

LOG = logging.getLogger("pskkey.tls")
JOURNAL = Journal(dict)


class Log(logging.Handler):
    """The log lines with their times. The test sets the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lines: list[tuple[float, str]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.budget = LogBudget(lambda: self.now)
        self.addFilter(self.budget)
        self.setFormatter(PlainFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [(self.now, line) for line in self.format(record).split("\n")]

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, function))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer not in due]
        for _, function in due:
            function()

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines]

    def most_in(self, seconds: float, without: str = "were not logged") -> int:
        times = [at for at, text in self.lines if without not in text]
        return max(sum(0 <= other - at < seconds for other in times) for at in times)


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    root, ours = logging.getLogger(), logging.getLogger("pskkey")
    level = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(made)
    try:
        with made.budget.reporting(made.later):
            yield made
    finally:
        root.removeHandler(made)
        ours.setLevel(level)


def test_600_strangers_cause_10_lines_in_10_seconds_and_40_in_a_minute(log: Log) -> None:
    complaints = [Complaints(logging.getLogger(f"pskkey.{name}")) for name in ("tls", "key_socket", "control_socket")]
    for number in range(6000):
        complaints[number % 3].warn(f"Connection from 10.{number % 600}", "no")
        log.pass_time(0.03)
    assert log.most_in(10) == 10
    assert log.most_in(60) == 40
    assert len(log.lines) <= 3 * (40 + 60 / REPORT_AFTER)


def test_records_left_out_are_reported_once(log: Log) -> None:
    complaints = Complaints(LOG)
    for number in range(25):
        complaints.warn(f"user {number}", "no")
    assert len(log.lines) == 10
    log.pass_time(REPORT_AFTER)
    assert log.texts[10:] == ["15 more complaints were not logged; `pskkeyctl status --json` counts them"]
    log.pass_time(10 * REPORT_AFTER)
    assert len(log.lines) == 11


def test_records_left_out_are_reported_at_the_end_and_without_a_timer() -> None:
    log = Log()
    logging.getLogger().addHandler(log)
    try:
        complaints = Complaints(LOG)
        with log.budget.reporting(log.later):
            for number in range(11):
                complaints.warn(f"user {number}", "no")
        assert log.texts[10].startswith("1 more complaints")
        for number in range(11, 14):
            complaints.warn(f"user {number}", "no")
        log.pass_time(REPORT_AFTER)
        complaints.warn("user 14", "no")
    finally:
        logging.getLogger().removeHandler(log)
    assert log.texts[11].startswith("3 more complaints")
    assert log.texts[12:] == ["user 14: no"]


def test_each_peer_causes_one_line_in_10_seconds(log: Log) -> None:
    for _ in range(19):
        Complaints(LOG).warn("user 1000", "no")
        Complaints(logging.getLogger("pskkey.key_socket")).warn("user 1000", "other")
        Complaints(LOG).warn("user 1001", "no")
        log.pass_time(1)
    assert [text for text in log.texts if "more" not in text] == ["user 1000: no", "user 1001: no"] * 2


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_ipv6_addresses_of_one_network_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


def test_new_event_is_never_lost_in_a_flood(log: Log) -> None:
    """Rule 3: each kind passes once a minute, however much others cause."""
    complaints = Complaints(LOG)
    for number in range(1000):
        complaints.warn(f"user {number}", "no")
    journal = Journal(dict, log.later)
    for event in EVENTS:
        journal.log_event(event, f"this is {event.name}", {"address": "192.0.2.1"})
    LOG.error("a fault of our own")
    assert log.texts[10:] == [*(f"this is {event.name}" for event in EVENTS), "a fault of our own"]


def test_failed_authentications_are_few_lines_that_no_flood_hides_and_that_hide_no_others(log: Log) -> None:
    journal, complaints = Journal(dict, log.later), Complaints(LOG)
    for number in range(3000):
        text = "failed {}"
        fields = {"address": f"10.{number % 30}.0.1"}
        journal.log_event(DaemonEvent.AUTHENTICATION_FAILED, text.format(fields["address"]), fields)
        complaints.warn(f"user {number}", "no")
        log.pass_time(0.1)
    log.pass_time(INTERVAL)
    counted = [at for at, text in log.lines if "failed" in text]
    assert len([at for at in counted if at < 1000 + INTERVAL]) == MAX_SOURCES
    assert len(counted) <= 6 * (2 * MAX_SOURCES + 1)
    others = [at for at, text in log.lines if text.startswith("user")]
    assert len(others) > 5 * 30, "complaints have their own allowance"


def test_flood_does_not_hide_the_reports_of_the_node(log: Log) -> None:
    complaints = Complaints(LOG)
    for number in range(20):
        for _ in range(100):
            complaints.warn(f"user {number}", "no")
        JOURNAL.log_event(NodeEvent.ROLE_CHANGED, f"change {number}")
        log.pass_time(2)
    assert [text for text in log.texts if "change" in text] == [f"change {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        *((event, 40) for event in (NodeEvent.MEMBER_JOINED, NodeEvent.MEMBER_REFUSED, DaemonEvent.COMMAND_DENIED)),
        *((event, 40) for event in (NodeEvent.PROTOCOL_ERROR, NodeEvent.DUPLICATE_ID, NodeEvent.JOIN_FAILED)),
        *((event, 60) for event in (NodeEvent.ROLE_CHANGED, NodeEvent.KEY_DISTRIBUTED, DaemonEvent.COMMANDED)),
        *((event, 1200) for event in (DaemonEvent.RELOAD_FAILED, DaemonEvent.STARTED)),
    ],
)
def test_each_event_keeps_the_allowance_of_its_cause(log: Log, event: NodeEvent | DaemonEvent, lines: int) -> None:
    for number in range(1200):
        JOURNAL.log_event(event, f"number {number}")
        log.pass_time(0.05)
    assert log.most_in(60) == lines


def test_repeated_failure_is_one_line_in_10_seconds(log: Log) -> None:
    for _ in range(10):
        JOURNAL.log_event(NodeEvent.JOIN_FAILED, "could not join n1")
        JOURNAL.log_event(DaemonEvent.COMMAND_DENIED, "user 1000 was denied Rekey")
        log.pass_time(0.9)
    assert log.texts == ["could not join n1", "user 1000 was denied Rekey"]


def make_failure(size: int) -> Exception:
    """Return an exception that was raised, with a text of this size."""
    try:
        int("x" * size, 37)
    except ValueError as error:
        error.args = ("x" * size,)
        return error
    raise AssertionError


def test_library_logs_single_short_lines(log: Log) -> None:
    zeroconf = logging.getLogger("zeroconf")
    for number in range(100):
        error = make_failure(9000)
        zeroconf.warning("packet %d\nof %r", number, b"\n" * 9000, exc_info=error)
    assert len(log.lines) == 10
    assert all(len(text) <= MAX_LINE for text in log.texts)
    assert "ValueError: xxx" in log.texts[0]
    assert log.texts[0].endswith(" of test_log_budget.py)")


def test_only_the_first_traceback_of_a_defect_is_whole(log: Log) -> None:
    for _ in range(5):
        logging.getLogger("asyncio").error("Fatal error on transport", exc_info=make_failure(3))
        LOG.error("A fault of our own", exc_info=make_failure(3))
    assert log.texts.count("ValueError: xxx") == 2
    assert sum(text.startswith("A fault of our own: ValueError: xxx (line ") for text in log.texts) == 4


def test_repeated_record_of_a_library_is_one_line_in_10_seconds(log: Log) -> None:
    for _ in range(50):
        logging.getLogger("asyncio").warning("socket.send() raised exception.")
        log.pass_time(0.1)
    assert log.texts == ["socket.send() raised exception."]


def test_faulty_record_does_not_end_the_program(log: Log) -> None:
    log.handle(logging.LogRecord("zeroconf", logging.WARNING, "file", 1, "%d bytes", ("many",), None))
    assert log.texts == ["%d bytes"]


def test_no_record_is_lost_at_the_level_debug(log: Log) -> None:
    logging.getLogger("pskkey").setLevel(logging.DEBUG)
    complaints = Complaints(LOG)
    for number in range(50):
        complaints.warn(f"user {number}", "no")
        LOG.debug("detail %d", number)
    assert len(log.lines) == 100
    log.pass_time(REPORT_AFTER)
    assert len(log.lines) == 100


def test_budget_of_a_logger_ends_with_its_context(log: Log) -> None:
    budget = LogBudget(lambda: log.now)
    log.removeFilter(log.budget)
    with budget.over(LOG.name):
        for number in range(20):
            Complaints(LOG).warn(f"user {number}", "no")
    assert len(log.lines) == 10
    for number in range(20):
        Complaints(LOG).warn(f"user {number}", "no")
    assert len(log.lines) == 30


async def test_timer_of_a_real_loop_causes_the_report(log: Log) -> None:
    loop = asyncio.get_running_loop()
    with log.budget.reporting(lambda seconds, function: loop.call_later(seconds / 1000, function)):
        for number in range(12):
            Complaints(LOG).warn(f"user {number}", "no")
        await asyncio.sleep(5 * REPORT_AFTER / 1000)
        assert log.texts[10].startswith("2 more complaints")
