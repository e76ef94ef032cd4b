"""The bench runs, and the goals of the record layer are met."""

import json
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "records"


@pytest.mark.slow
def test_records_per_second_reach_the_goals() -> None:
    done = subprocess.run([str(BENCH), "--json"], capture_output=True, text=True, timeout=120, check=False)
    result = json.loads(done.stdout)
    assert set(result["suites"]) == {"WDM_WITH_NULL_SHA256", "PSK_CHACHA20_POLY1305"}
    for name, judged in result["suites"].items():
        assert all(goal["met"] for goal in judged["goals"]), (name, judged)
    assert done.returncode == 0
