"""The rows of the attacks of one kind. They are measured once; each test checks one row."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.hostile.attacks import ATTACKS, CALM

RUN: Final = Path(__file__).with_name("run")
SECONDS: Final = "1"
"""Seconds for which a group is only watched; few, so that the tests are short."""
LONGEST: Final = 900.0
"""Seconds that the attacks of one kind take at most, when every wait ends at its limit."""


def attacks_of(*kinds: str) -> list[str]:
    """Return the names of the attacks of these kinds."""
    return [name for name, attack in ATTACKS.items() if attack.kind in kinds]


def rows_of(*kinds: str) -> dict[str, dict[str, Any]]:
    """Do the attacks of these kinds and return the row of each by its name.

    An attack in which a bound was not kept is repeated once: the bounds are times, and the machine may have been busy
    with other work. A daemon with a fault exceeds its bounds in both runs.
    """
    rows = _measure(*kinds)
    assert rows.keys() == {CALM, *attacks_of(*kinds)}
    if again := {name for name, row in rows.items() if row["faults"]}:
        # The calm group is measured together with any attack.
        measured = _measure(*(again - {CALM} or attacks_of(*kinds)[:1]))
        rows |= {name: row for name, row in measured.items() if name in again}
    return rows


def _measure(*names: str) -> dict[str, dict[str, Any]]:
    command = [str(RUN), *names, "--json", "--seconds", SECONDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode in (0, 1), done.stderr
    return {row["attack"]: row for row in json.loads(done.stdout)}


def hold(row: dict[str, Any]) -> None:
    """Check that every bound was kept, and that there was an attack."""
    assert row["attack_packets_a_second"] > 0, row
    assert not row["faults"], row
