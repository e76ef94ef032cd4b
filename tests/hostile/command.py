"""The command line of the attack suite: attacks a group and reports in a table.

Exit codes: 0 every bound was kept, 1 a bound was not kept, 2 usage, 4 not root, 130 and 143 interrupted.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.hostile.attacks import ATTACKS, CALM, KINDS, chosen
from tests.hostile.report import Row, row, table
from tests.hostile.siege import Findings, Siege
from tests.lab.command import until_interrupted
from tests.lab.group import Failed
from tests.lab.laboratory import laboratory

RATE: Final = 1_000_000.0
"""Bytes per second of an attack."""
SECONDS: Final = 10.0
"""Seconds for which the group is only watched, between a newcomer and a rekey."""


async def measure(names: Sequence[str], rate: float, seconds: float, rows: list[Row]) -> None:
    """Do the attacks and enter their rows. Everything is cleaned up, also when this is cancelled."""
    with laboratory(time.time_ns() % 1_000_000) as lab:
        calm: Findings | None = None
        for name in (CALM, *names):
            try:
                found = await Siege(lab, ATTACKS[name], rate, seconds).run()
            except Failed as error:
                found = Findings(troubles=[f"the attack itself: {error}"])
            calm = calm or found
            rows.append(row(name, found, calm))
            if sys.stderr.isatty():
                print(table(rows[-1:]), file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests/hostile/run", description="Attack a group of real daemons.")
    names = [*KINDS, *(name for name in ATTACKS if name != CALM)]
    parser.add_argument("attack", nargs="*", metavar="ATTACK", help=f"one or a kind of them (default: all): {names}")
    parser.add_argument("--rate", type=_positive, default=RATE, metavar="BYTES_PER_SECOND", help="default: 1 MB/s")
    parser.add_argument("--seconds", type=_positive, default=SECONDS, metavar="N", help="of watching (default: 10)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.attack if name not in names]:
        parser.error(f"no such attack: {', '.join(unknown)}; there are {', '.join(names)}")
    if os.geteuid() != 0:
        print("tests/hostile/run: network namespaces need root; run it with sudo", file=sys.stderr)
        return 4
    rows: list[Row] = []
    interrupted: list[signal.Signals] = []
    try:
        asyncio.run(until_interrupted(measure(chosen(given.attack), given.rate, given.seconds, rows), interrupted))
    except asyncio.CancelledError:
        return 128 + interrupted[0]
    print(json.dumps([one.as_json() for one in rows], indent=2) if given.json else table(rows))
    return 1 if any(one.faults for one in rows) else 0


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError("a number above 0")
    return number
