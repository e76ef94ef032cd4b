"""The coverage of the core and of the wire format by their own tests, in branches and lines.

By hand, with the lines that are missing: `packaging/test tests/quality/test_coverage.py -s`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOAL = 98.0
"""Percent of the lines and branches together."""

RUN = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/core"]
CONFIGURATION = """
[run]
branch = true
source_pkgs = pskkey.core, pskkey.wire
[report]
precision = 1
skip_covered = true
show_missing = true
exclude_also =
    case _:
    \\.\\.\\.
"""


@pytest.mark.slow
def test_nearly_every_branch_of_core_and_wire_is_run_by_their_own_tests(tmp_path: Path) -> None:
    settings = tmp_path / "coverage.ini"
    settings.write_text(CONFIGURATION)
    environment = {**os.environ, "COVERAGE_FILE": str(tmp_path / "data")}

    def coverage(command: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "coverage", command, f"--rcfile={settings}", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    coverage("run", *RUN, *sorted(map(str, (ROOT / "tests/wire").glob("test_*.py"))))
    report = coverage("report")
    print(report)
    total = re.search(r"^TOTAL.* ([0-9.]+)%$", report, re.MULTILINE)
    assert total is not None, report
    assert float(total[1]) >= GOAL, report
