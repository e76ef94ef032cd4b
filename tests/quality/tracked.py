"""The files of this project: those that git tracks, or in an unpacked archive all files."""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def tracked_files() -> list[Path]:
    """Return the tracked files that exist, relative to the checkout."""
    # The checkout may belong to another user than the one that runs the tests.
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        listed = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    visible = (Path(name) for name in listed if name)
    return [path for path in visible if (ROOT / path).is_file() and not _is_generated(path)]


def python_files() -> dict[str, str]:
    """Return the source of every tracked Python file, scripts without a suffix too, by its path."""
    found = {}
    for path in tracked_files():
        if path.suffix == ".py" or (not path.suffix and _is_python_script(ROOT / path)):
            found[str(path)] = (ROOT / path).read_text(encoding="utf-8")
    return found


def _is_python_script(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(80)
    return line.startswith(b"#!") and b"python" in line


def _is_generated(path: Path) -> bool:
    return any(part in {"build", "dist"} or (part.startswith(".") and part != ".ci") for part in path.parts[:-1])
