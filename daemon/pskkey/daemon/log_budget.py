"""The budget of log lines: others may cause so few lines that nobody can fill a disk or hide important ones.

This filter, at the handler, gets every record. Debugging output always passes: an operator requested it. For the rest:

1. A record has a cause. `OTHERS`: a stranger, a peer, a local user, or a library, whose records packets of strangers
   cause. `NODE`: the node itself, above all its role and its keys; an insider has some influence there. `OPERATOR`: the
   operator or the service manager requested it. `COUNTED`: others cause it, and `repeated_events` made one record of
   many already. The records of these two always pass.
2. Each cause has an allowance of its own, so that others cannot hide the reports of the node itself.
3. The first record of a kind in `FIRST_AGAIN_AFTER` seconds passes even above the allowance, so that a flood never
   hides a new event. A kind is an event of the journal, or the line of code that logs; there are some 80 of them.
4. A record with a key (`once`), such as the peer that causes it, passes once in `REPEAT_AFTER` seconds. The key of a
   library's record is its text.
5. Records that did not pass are counted, and one line reports how many, `REPORT_AFTER` seconds after the first.
   At the level "debug" they are logged as debugging output instead.
6. A record is one line of at most `MAX_LINE` characters. A traceback, of a defect, stays only with the first
   record of its kind, and never with one of zeroconf, whose exceptions packets cause.

Cost: at most 40 lines and 6 reports a minute by others, and 60 lines by the node itself, besides the first ones and
those that are counted.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from copy import copy
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple


class Cause(Enum):
    """The party that causes a log line."""

    OTHERS = "others"
    NODE = "node"
    OPERATOR = "operator"
    COUNTED = "counted"


class LineLimit(NamedTuple):
    """At most `lines` in any period of `seconds`."""

    lines: int
    seconds: float


ALLOWANCES: Final = {
    Cause.OTHERS: (LineLimit(10, 10.0), LineLimit(40, 60.0)),
    Cause.NODE: (LineLimit(30, 10.0), LineLimit(60, 60.0)),
}
"""The allowances of each cause; all of them hold. A failover is 6 lines of a node, so 10 a minute are logged whole."""

FIRST_AGAIN_AFTER: Final = 60.0
"""Seconds without a record of a kind, after which its next record is a first one again."""

REPEAT_AFTER: Final = 10.0
"""Seconds in which at most one record with the same key is logged."""

REPORT_AFTER: Final = 10.0
"""Seconds from the first record that is left out until the number of them is reported."""

MAX_LINE: Final = 1000
"""Characters of a record."""

_OURS: Final = "pskkey"
_log = logging.getLogger(_OURS)

type _Later = Callable[[float, Callable[[], None]], object]


class LogBudget(logging.Filter):
    """A filter for a handler, or for loggers.

    A record states its cause and key as `extra={"cause": ..., "once": ...}`. Without a cause, the cause is NODE if the
    record is ours and has no key, else OTHERS.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._later: _Later | None = None
        self._passed: dict[Cause, deque[float]] = {cause: deque() for cause in ALLOWANCES}
        self._kinds: dict[Hashable, float] = {}  # bounded by the lines of code that log
        self._keys: dict[Hashable, float] = {}  # bounded by what may pass in REPEAT_AFTER
        self._left_out = 0
        self._left_out_since = 0.0

    @contextmanager
    def reporting(self, later: _Later) -> Iterator[None]:
        """Report by a timer (`later(seconds, function)`), and at the end. Else the next record causes the report."""
        self._later = later
        try:
            yield
        finally:
            self._later = None
            self.report()

    @contextmanager
    def over(self, *loggers: str) -> Iterator[None]:
        """Apply the budget to these loggers, but not to their children, in a program with handlers of its own.

        The handlers do not change.
        """
        found = [logging.getLogger(name) for name in loggers]
        for logger in found:
            logger.addFilter(self)
        try:
            yield
        finally:
            for logger in found:
                logger.removeFilter(self)

    def report(self) -> None:
        """Log how many records were left out, if any were."""
        count, self._left_out = self._left_out, 0
        if count:
            text = "%d more complaints were not logged; `pskkeyctl status --json` counts them"
            _log.warning(text, count, extra={"cause": Cause.OPERATOR})

    def filter(self, record: logging.LogRecord) -> bool | logging.LogRecord:
        """Return the record, perhaps shortened; False when it is left out."""
        cause = _cause(record)
        if record.levelno <= logging.DEBUG or cause in (Cause.OPERATOR, Cause.COUNTED):
            return True
        now = self._clock()
        if self._later is None and now - self._left_out_since >= REPORT_AFTER:
            self.report()
        kind = _kind(record)
        first = now - self._kinds.get(kind, -FIRST_AGAIN_AFTER) >= FIRST_AGAIN_AFTER
        if not self._takes(cause, first, (kind, _key(record)), now):
            return self._leave_out(record, now)
        self._kinds[kind] = now
        return _shortened(record, first)

    def _takes(self, cause: Cause, first: bool, key: tuple[Hashable, str | None], now: float) -> bool:
        passed = self._passed[cause]
        while passed and now - passed[0] >= max(allowance.seconds for allowance in ALLOWANCES[cause]):
            passed.popleft()
        self._keys = {key: at for key, at in self._keys.items() if now - at < REPEAT_AFTER}
        if key in self._keys:
            return False
        if not first and any(
            sum(now - at < allowance.seconds for at in passed) >= allowance.lines for allowance in ALLOWANCES[cause]
        ):
            return False
        passed.append(now)
        if key[1] is not None:
            self._keys[key] = now
        return True

    def _leave_out(self, record: logging.LogRecord, now: float) -> bool | logging.LogRecord:
        if logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            record = _shortened(record, keep_traceback=False)
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
            return record
        if not self._left_out:
            self._left_out_since = now
            if self._later is not None:
                self._later(REPORT_AFTER, self.report)
        self._left_out += 1
        return False


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == _OURS or record.name.startswith(f"{_OURS}.")


def _cause(record: logging.LogRecord) -> Cause:
    stated = getattr(record, "cause", None)
    if isinstance(stated, Cause):
        return stated
    return Cause.NODE if _is_ours(record) and not hasattr(record, "once") else Cause.OTHERS


def _key(record: logging.LogRecord) -> str | None:
    """Return the key that a record states; that of a library's record is its text."""
    stated: str | None = getattr(record, "once", None)
    return stated if stated is not None or _is_ours(record) else _text(record)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  a faulty record of a library must not end the program
        return str(record.msg)


def _kind(record: logging.LogRecord) -> Hashable:
    fields = getattr(record, "journal", None)
    return fields["MESSAGE_ID"] if fields else (record.pathname, record.lineno)


def _shortened(record: logging.LogRecord, keep_traceback: bool) -> logging.LogRecord:
    """Return a copy in one line, with the type, the text and the place of an exception instead of its traceback."""
    short = copy(record)
    text, end = _text(record), ""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and not (keep_traceback and not record.name.startswith("zeroconf")):
        short.exc_info, short.exc_text, short.stack_info = None, None, None
        if not isinstance(error, OSError):  # the message of a library contains the text of such an error
            end = _one_line(f": {type(error).__name__}: {error}")[: MAX_LINE // 2] + _place(error)
    short.msg, short.args = _one_line(text)[: MAX_LINE - len(end)] + end, ()
    return short


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _place(error: BaseException) -> str:
    """Return where an exception was raised: the line and the name of the file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" (line {trace.tb_lineno} of {Path(trace.tb_frame.f_code.co_filename).name})" if trace is not None else ""
