"""The last released build, which works together with this one in one group. At a release its commit is entered here."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests.quality.tracked import ROOT

COMMIT: Final = "b6dbaca517e4ab77601bccf5aac0082248b49725"
"""The commit of the last release. Until 0.1.0 is released: the first one with its wire format."""

VERSION: Final = "0.0.9"
"""The version that the build shows, so that a status shows which build a node runs."""

_SHOWN_IN: Final = "daemon/pskkey/__init__.py"


def unpack(directory: Path) -> Path:
    """Unpack the source tree of the released build into a new `directory`, and return it.

    Raises RuntimeError if this clone does not have its commit.
    """
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "archive", COMMIT]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode != 0:
        raise RuntimeError(
            f"this clone lacks {COMMIT[:7]}, the last release; get its whole history with `git fetch --unshallow` "
            f"({archive.stderr.decode(errors='replace').strip()})"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
    shown_in = directory / _SHOWN_IN
    lines = shown_in.read_text("utf-8").splitlines(keepends=True)
    shown = [f'__version__ = "{VERSION}"\n' if line.startswith("__version__ =") else line for line in lines]
    if shown == lines:
        raise RuntimeError(f"{_SHOWN_IN} of {COMMIT[:7]} has no __version__")
    shown_in.write_text("".join(shown), "utf-8")
    return directory
