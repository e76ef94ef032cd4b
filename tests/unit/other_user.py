"""What tests need that act as another user."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

NOBODY: Final = 65534
"""The user and group `nobody` of Debian."""


def acts_as_nobody[**P, T](test: Callable[P, T]) -> Callable[P, T]:
    """Mark a test that only root can run."""
    needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
    return pytest.mark.root(needs_root(test))


def let_everybody_enter(directory: Path) -> Path:
    """Open a directory of pytest's, and those above it, to every user; return it."""
    for closed in [directory, *directory.parents]:
        if closed == Path(tempfile.gettempdir()):
            break
        closed.chmod(0o755)
    return directory
