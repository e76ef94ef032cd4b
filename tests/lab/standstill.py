"""The standstill of this machine: a process that only ticks measures it in scenarios without traffic peers.

    python -m tests.lab.standstill

It writes `ticks` to standard output when it begins, and at the end of standard input the longest delay of a tick in ms.
"""

import asyncio
import gc
import select
import subprocess
import sys
import time
from typing import Final

from tests.lab.daemon import environment
from tests.lab.group import Failed
from tests.lab.traffic_peer import TICK_NS
from tests.quality.tracked import ROOT

_ANSWERS_WITHIN: Final = 20.0


class Standstill:
    """Measures from its start on, in a process of its own: a busy moment of our process is no standstill."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.standstill"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            start_new_session=True,
        )
        # Its own start must not disturb the measurement.
        if self._process.stdout is None or self._process.stdout.readline() != b"ticks\n":
            self.destroy()
            raise Failed("the process that measures the machine's standstill does not start")

    async def finish(self) -> float:
        """End it and return the longest standstill in milliseconds. Raises Failed."""
        try:
            printed, _ = await asyncio.to_thread(self._process.communicate, timeout=_ANSWERS_WITHIN)
            return float(printed)
        except (subprocess.TimeoutExpired, ValueError):
            raise Failed("the process that measures the machine's standstill does not report") from None

    def destroy(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    """Tick as the traffic peers do until standard input ends."""
    gc.disable()
    print("ticks", flush=True)
    longest, last = 0, time.monotonic_ns()
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], TICK_NS / 1e9)[0])
        now = time.monotonic_ns()
        longest, last = max(longest, now - last - TICK_NS), now
    print(round(longest / 1e6, 1))


if __name__ == "__main__":
    main()
