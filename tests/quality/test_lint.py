"""The linters find no fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quality.tracked import ROOT, python_files, tracked_files


def complaints(tool: str, *arguments: str) -> str:
    """Run a linter of this environment on the checkout; return its output, or nothing when it finds no fault."""
    program = Path(sys.executable).with_name(tool)
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}" or f"exit code {done.returncode}"


def test_ruff_check() -> None:
    assert complaints("ruff", "check", "--no-cache", *python_files()) == ""


def test_ruff_format() -> None:
    assert complaints("ruff", "format", "--no-cache", "--diff", *python_files()) == ""


def test_mypy() -> None:
    assert complaints("mypy", "--strict") == ""


def test_codespell() -> None:
    assert complaints("codespell", *map(str, tracked_files())) == ""


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("ruff", ("check", "--no-cache"), "import os\n"),
        ("ruff", ("format", "--no-cache", "--diff"), "x = {  'a' :1}\n"),
        ("mypy", ("--strict", f"--cache-dir={os.devnull}"), "def f(x):\n    return x\n"),
        ("codespell", (), "# this is teh mistake\n"),  # codespell:ignore
    ],
)
def test_each_linter_finds_a_fault(tool: str, arguments: tuple[str, ...], text: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(text)
    assert str(bad) in complaints(tool, *arguments, str(bad))
