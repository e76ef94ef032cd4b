"""How long this machine itself stands still: a process that only ticks, for scenarios without traffic peers.

    python -m tests.lab.standstill

Standard output tells when it ticks, and after the end of standard input the longest that a tick came late, in ms.
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
    """Measures from its start on. It is a process of its own, for what ours is busy with is no standstill."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.standstill"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            start_new_session=True,
        )
        # Its own start is no load on what is measured.
        if self._process.stdout is None or self._process.stdout.readline() != b"ticks\n":
            self.destroy()
            raise Failed("what measures the machine's standstill does not start")

    async def finish(self) -> float:
        """End it and return the longest standstill in milliseconds. Raises Failed."""
        try:
            said, _ = await asyncio.to_thread(self._process.communicate, timeout=_ANSWERS_WITHIN)
            return float(said)
        except (subprocess.TimeoutExpired, ValueError):
            raise Failed("what measures the machine's standstill does not report") from None

    def destroy(self) -> None:
        """Leave nothing running."""
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
