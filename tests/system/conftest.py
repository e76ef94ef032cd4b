"""Daemons for the tests of this directory."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lab.group import Group
from tests.system.loopback import Loopback


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    """A group of daemons on loopback addresses, in a directory with a short name: socket paths are limited."""
    with tempfile.TemporaryDirectory(prefix="psk-") as directory:
        group = Loopback(Path(directory))
        yield group
        group.destroy()
        print(Group(daemon for daemon in group.daemons if daemon.log).transcript())  # pytest shows it with a failure
