"""The bench runs, and a key server serves at least as many keys as a bare server."""

import json
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "keys"


@pytest.mark.slow
def test_keys_per_second_reach_the_goals() -> None:
    done = subprocess.run([str(BENCH), "--json"], capture_output=True, text=True, timeout=600, check=False)
    result = json.loads(done.stdout)
    assert set(result["goals"]) == {"pskkey-server", "inbound sessions"}
    for name, goal in result["goals"].items():
        assert goal["met"], (name, goal)
    assert done.returncode == 0
