"""The process of an attacker: its start with orders on a host, its end, and its report of what it has sent.

    python -m tests.hostile.MODULE ORDERS

ORDERS is a file of JSON. The process writes `ready` when it begins. At the end of standard input it writes what it has
sent, as JSON, and ends.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.daemon import environment
from tests.lab.group import Failed
from tests.quality.tracked import ROOT

ENDS_WITHIN: Final = 10.0
"""Seconds that it may take to end after the end of its standard input."""
SCHEDULING: Final = ("taskset", "-c", str((os.cpu_count() or 1) - 1), "nice", "-n", "-10")
"""An attacker uses only the last processor, with priority: a real attacker is not slowed down by its victims either."""

_BEGAN: Final = time.monotonic()


@dataclass(slots=True)
class Sent:
    """The figures of an attacker. `packets`: datagrams, connections or frames, depending on the attack.

    `cpu_s`: its processor time. `seconds`: how long it has attacked.
    """

    packets: int = 0
    bytes: int = 0
    refused: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0


class Attacker:
    """One attacker's process."""

    def __init__(self, prefix: Sequence[str], module: str, orders: Path) -> None:
        command = [*prefix, *SCHEDULING, sys.executable, "-m", f"tests.hostile.{module}", str(orders)]
        self._errors = orders.with_suffix(".errors")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment(), "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                start_new_session=True,
            )
        if self._process.stdout is None or self._process.stdout.readline() != b"ready\n":
            self.destroy()
            raise Failed(f"the attacker {module} does not start: {self._errors.read_text()[-2000:]}")

    def stop(self) -> Sent:
        """End it and return its figures. Raises Failed."""
        try:
            printed, _ = self._process.communicate(timeout=ENDS_WITHIN)
            return Sent(**json.loads(printed))
        except (subprocess.TimeoutExpired, ValueError, TypeError):
            raise Failed(f"the attacker does not report: {self._errors.read_text()[-2000:]}") from None

    def destroy(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def orders() -> dict[str, Any]:
    """Return the orders of this process, and write that it begins."""
    read: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    print("ready", flush=True)
    return read


def report(sent: Sent) -> None:
    """Write the figures of this process."""
    used = os.times()
    sent.seconds = round(time.monotonic() - _BEGAN, 2)
    sent.cpu_s = round(used.user + used.system, 2)
    print(json.dumps(asdict(sent)), flush=True)
