"""Log lines: with fields for systemd's journal, readable on a terminal, and never with a secret.

A record's fields for the journal are its attribute `journal`, a dictionary; see `pskkey.daemon.journal`.
"""

import asyncio
import errno
import logging
import os
import socket
import stat
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from pskkey.daemon.log_budget import LogBudget

JOURNAL_SOCKET: Final = Path("/run/systemd/journal/socket")
MAX_MESSAGE: Final = 48 * 1024
"""Bytes of a message that are logged; the smallest datagram buffer of a kernel holds them with the fields."""

WAITING_LINES: Final = 64
"""Lines that wait while the journal takes none. A burst of the repeated events of one kind is 33 lines."""

TRIED_AGAIN_AFTER: Final = 0.1
CLOSED_WITHIN: Final = 0.5
"""Seconds."""

_SYSLOG_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_CONTROLS: Final = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")
"""The control characters, except tab and newline: a terminal would obey them."""
_SIZE: Final = struct.Struct("<Q")


def configure(level: str, environ: Mapping[str, str] = os.environ) -> LogBudget:
    """Log our records from `level` on, those of libraries from warnings on. Return the budget of all lines.

    The log goes to the journal if standard error leads there, else to standard error.
    """
    handler: logging.Handler
    if is_journal(sys.stderr, environ):
        handler = JournalHandler(sys.stderr)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    budget = LogBudget()
    handler.addFilter(budget)
    set_level(level)
    return budget


def set_level(level: str) -> None:
    """Set the level from which our records are logged."""
    logging.getLogger("pskkey").setLevel(level.upper())


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether `stream` leads to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class PlainFormatter(logging.Formatter):
    """Formats records without control characters: a name of somebody else must not command a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return super().format(record).translate(_CONTROLS)


class JournalHandler(logging.Handler):
    """Sends records to the journal by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL); never blocks.

    While the journal takes no records, up to WAITING_LINES of them wait, and the later ones are lost. A line after
    those that have waited reports how many. An event loop that runs sends what waits; without one, the next record
    does, and `close`. When no process listens at `path`, a record goes to `stream` with its priority in front
    (sd-daemon(3)) and without fields.
    """

    def __init__(self, stream: TextIO, path: Path = JOURNAL_SOCKET) -> None:
        super().__init__()
        self.setFormatter(PlainFormatter("%(message)s"))
        self._stream = stream
        is_socket = stat.S_ISSOCK(os.fstat(stream.fileno()).st_mode)
        # Under systemd the stream is a socket, and the handler must not wait for it either.
        self._stream_socket = socket.socket(fileno=os.dup(stream.fileno())) if is_socket else None
        self._path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._waiting: deque[tuple[str, int, Mapping[str, str]]] = deque()
        self._lost = 0
        """The number of records since the last one that waits."""
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            message, priority = self.format(record), _SYSLOG_PRIORITY.get(record.levelno, 6)
            fields: Mapping[str, str] = getattr(record, "journal", {})
        except Exception:  # noqa: BLE001  logging's own way: a faulty record must not end the program
            self.handleError(record)
            return
        self._send_waiting()
        if self._lost or len(self._waiting) >= WAITING_LINES:
            self._lost += 1
        else:
            self._waiting.append((message, priority, fields))
            self._send_waiting()

    def close(self) -> None:
        """Close the sockets. Wait at most CLOSED_WITHIN until the journal has taken what waits."""
        until = time.monotonic() + CLOSED_WITHIN
        while self._waiting and time.monotonic() < until:
            time.sleep(CLOSED_WITHIN / 50)
            self._send_waiting()
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        if self._stream_socket is not None:
            self._stream_socket.close()
        super().close()

    def _try_again(self) -> None:
        self._timer = None
        self.acquire()
        try:
            self._send_waiting()
        finally:
            self.release()

    def _send_waiting(self) -> None:
        while self._waiting and self._send(*self._waiting[0]):
            self._waiting.popleft()
            if self._lost and not self._waiting:
                report = f"{self._lost} lines were not taken by the journal"
                self._waiting.append((report, _SYSLOG_PRIORITY[logging.WARNING], {}))
                self._lost = 0
        if self._waiting and self._timer is None:
            with suppress(RuntimeError):  # without an event loop
                self._timer = asyncio.get_running_loop().call_later(TRIED_AGAIN_AFTER, self._try_again)

    def _send(self, message: str, priority: int, fields: Mapping[str, str]) -> bool:
        entry = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "pskkeyd", **fields}
        try:
            self._socket.sendto(b"".join(map(_encode, entry, entry.values())), self._path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):  # there is no journal, or it is starting again
                return self._write("".join(f"<{priority}>{line}\n" for line in message.splitlines()))
            return False
        return True

    def _write(self, lines: str) -> bool:
        if self._stream_socket is None:
            self._stream.write(lines)
            self._stream.flush()
            return True
        data = lines.encode("utf-8", "replace")
        try:
            return self._stream_socket.send(data, socket.MSG_DONTWAIT) == len(data)
        except OSError:
            return False


def _encode(name: str, value: str) -> bytes:
    """Return an encoded field. A field of several lines has its size, u64 little-endian, instead of the equals sign."""
    data = value.translate(_CONTROLS).encode("utf-8", "replace")
    if len(data) > MAX_MESSAGE:
        data = data[:MAX_MESSAGE].decode("utf-8", "ignore").encode()  # a cut character is removed whole
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), _SIZE.pack(len(data)), data)
