"""Daemons for the tests of this directory."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.loopback import Loopback


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    """A group of daemons on loopback addresses, in a directory with a short name: socket paths are limited."""
    with tempfile.TemporaryDirectory(prefix="psk-") as directory:
        group = Loopback(Path(directory))
        yield group
        group.destroy()


@pytest.fixture
def as_root() -> None:
    """Skip a test that needs root; in CI, where nothing may be skipped, fail it."""
    if os.geteuid() != 0:
        reason = "needs root (network namespaces, other users): run the tests with sudo"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
