"""The state of a daemon as its log shows it: exact to a millisecond, and free of cost for the daemon."""

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Final

_STAMP: Final = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) "
_LINE: Final = re.compile(
    _STAMP + r"\w+ +(?:"
    r"\w+ -> (?P<role>\w+), term \d+|joined master (?P<master>\S+) in term \d+"
    r"|activated key epoch (?P<epoch>\d+), (?P<fingerprint>[0-9a-f]+)|(?P<listening>Listening on) .*)\n",
)


def monotonic_of(stamp: str) -> float:
    """Return the time of a line of a log, local time, as one of `time.monotonic`."""
    return datetime.fromisoformat(stamp).astimezone().timestamp() + time.monotonic() - time.time()


class LogView:
    """The state that the present process of a daemon has logged. None, and epoch 0: nothing yet.

    Times are of `time.monotonic`. `changed_at`: the last change of role, master or key. `loaded_at`: it listens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self.forget()

    def forget(self) -> None:
        """Forget the process before: the next lines are of a new one."""
        if self._path.exists():
            self._position = self._path.stat().st_size
        self.role: str | None = None
        self.master: str | None = None
        self.fingerprint: str | None = None
        self.epoch = 0
        self.changed_at = 0.0
        self.loaded_at: float | None = None

    def read(self) -> None:
        """Read the lines that were logged since the last call."""
        try:
            if self._path.stat().st_size == self._position:
                return
        except FileNotFoundError:
            return
        with self._path.open("rb") as log:
            log.seek(self._position)
            new = log.read()
        new = new[: new.rfind(b"\n") + 1]
        self._position += len(new)
        for line in _LINE.finditer(new.decode(errors="replace")):
            self._note(line)

    def _note(self, line: re.Match[str]) -> None:
        at = monotonic_of(line[1])
        if line["listening"]:
            self.loaded_at = self.loaded_at or at
            return
        self.changed_at = at
        if line["role"]:
            self.role = line["role"]
            if self.role != "client":
                self.master = None
        elif line["master"]:
            self.master = line["master"]
        else:
            self.epoch, self.fingerprint = int(line["epoch"]), line["fingerprint"]
