"""The standstill of this machine: a process that only ticks measures it, where no traffic peers do.

    python -m tests.lab.standstill

It writes `ticks` to standard output when it begins, and for each byte of standard input the longest delay of a tick in
ms since it began or since the byte before. It ends with standard input.
"""

import asyncio
import gc
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

    def longest_ms(self) -> float:
        """Return the longest standstill in milliseconds since its start or the last call. Raises Failed."""
        question, answer = self._process.stdin, self._process.stdout
        if question is None or answer is None:
            raise Failed("the process that measures the machine's standstill has no pipes")
        try:
            os.write(question.fileno(), b"?")
            ready = select.poll()  # a large group has more descriptors than select(2) can name
            ready.register(answer, select.POLLIN)
            if not ready.poll(1000 * _ANSWERS_WITHIN):
                raise Failed("the process that measures the machine's standstill does not answer")
            return float(answer.readline())
        except (OSError, ValueError):
            raise Failed("the process that measures the machine's standstill has ended") from None

    async def finish(self) -> float:
        """End it and return the longest standstill in milliseconds. Raises Failed."""
        try:
            return await asyncio.to_thread(self.longest_ms)
        finally:
            self.destroy()

    def destroy(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@asynccontextmanager
async def standstill() -> AsyncIterator[list[float]]:
    """Measure the longest standstill of the machine itself. At the end the list has it, in milliseconds."""
    measuring = Standstill()
    longest: list[float] = []
    try:
        yield longest
        longest.append(await measuring.finish())
    finally:
        measuring.destroy()


def main() -> None:
    """Tick as the traffic peers do until standard input ends."""
    gc.disable()
    print("ticks", flush=True)
    longest, last = 0, time.monotonic_ns()
    while True:
        asked = select.select([0], [], [], TICK_NS / 1e9)[0]
        now = time.monotonic_ns()
        longest, last = max(longest, now - last - TICK_NS), now
        if asked:
            if not os.read(0, 1):
                return
            print(round(longest / 1e6, 1), flush=True)
            longest = 0


if __name__ == "__main__":
    main()
