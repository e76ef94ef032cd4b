"""Only a test that failed during a standstill runs again, with its fixtures; the summary lists it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent

CONFTEST: Final = """
from tests.second_runs import SecondRuns


def pytest_configure(config):
    config.pluginmanager.register(SecondRuns())
"""

HEAD: Final = """
import os, signal, time
from pathlib import Path

import pytest

runs = []
children = Path(f"/proc/self/task/{os.getpid()}/children")

def stand_still(seconds):
    # As far as we can make it: the process that measures the standstill stands still.
    (ticking,) = map(int, children.read_text().split())
    os.kill(ticking, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(ticking, signal.SIGCONT)
"""

CASES: Final = {
    # the body of the module: how often it runs, and whether it passes
    "def test(): runs.append(1); stand_still(0.7); assert len(runs) == 2, 'too slow'": (2, True),
    "def test(): runs.append(1); stand_still(0.7); assert False": (2, False),
    "def test(): runs.append(1); stand_still(0.7)": (1, True),
    "def test(): runs.append(1); stand_still(0.2); assert False": (1, False),
    "def test_first(): stand_still(0.7)\ndef test(): runs.append(1); assert False": (1, False),
    "@pytest.mark.fast\ndef test(): runs.append(1); assert False": (1, False),
    """
@pytest.fixture(scope="module")
def group():
    runs.append(1); stand_still(0.7); assert len(runs) == 2

def test(group): pass
""": (2, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("body", CASES)
def test_a_test_runs_again_only_if_it_failed_during_a_standstill(body: str, tmp_path: Path) -> None:
    times, passes = CASES[body]
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fast\n")
    inner = tmp_path / "test_inner.py"
    inner.write_text(f"{HEAD}\n{body}\n\ndef test_last(): print('runs:', len(runs))\n")
    junit = ["--junitxml", str(tmp_path / "junit.xml")]
    done = run("-m", "pytest", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *junit, str(inner))
    assert done.returncode == (0 if passes else 1), done.stdout + done.stderr
    assert f"runs: {times}\n" in done.stdout
    summed_up = run("tests/summary.py", str(tmp_path))
    assert summed_up.returncode == done.returncode
    again = [line for line in summed_up.stdout.splitlines() if "::test ran again: stood still for " in line]
    assert len(again) == times - 1
    assert all(line.startswith("  test_inner::test ") and "assert" in line.lower() for line in again), again


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
