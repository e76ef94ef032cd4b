"""Helpers of tests that act as another user."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

NOBODY: Final = 65534
"""The user and group `nobody` of Debian."""


def acts_as_nobody[**P, T](test: Callable[P, T]) -> Callable[P, T]:
    """Mark a test that only root can run."""
    return pytest.mark.root(test)


def let_everybody_enter(directory: Path) -> Path:
    """Let every user enter a directory of pytest and those above it. Return the directory."""
    for closed in [directory, *directory.parents]:
        if closed == Path(tempfile.gettempdir()):
            break
        closed.chmod(0o755)
    return directory
