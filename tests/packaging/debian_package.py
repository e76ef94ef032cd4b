"""The Debian package of this tree, built with the script for users."""

import os
import subprocess
from pathlib import Path

from tests.quality.tracked import ROOT


def build(directory: Path, **environment: str) -> Path:
    """Build the package into `directory` and return its path. Fails when the build does."""
    done = try_build(directory, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.strip())


def try_build(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build the package into `directory`; a failure is in the result."""
    return subprocess.run(
        [ROOT / "packaging" / "build-deb", directory],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
