"""The bench on booted hosts runs, and the daemon costs no more than promised."""

import json
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "hosts"

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_the_daemon_costs_what_was_promised() -> None:
    done = subprocess.run([BENCH, "--json"], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert set(result["measured"]) == {"start_s", "memory_mb", "processor_percent", "status_s"}
    assert len(result["measured"]["processor_percent"]) == 3
    for name, values in result["measured"].items():
        assert 0 < max(values) < result["promised"][name], result
    assert result["promises_kept"]
    assert done.returncode == 0
