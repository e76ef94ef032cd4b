"""Daemons for the tests of this directory."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

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


@pytest.fixture
def as_root() -> None:
    """Skip a test that needs root when we are not."""
    if os.geteuid() != 0:
        _cannot_run("needs root (network namespaces, other users): run the tests with sudo")


@pytest.fixture
def avahi_installed() -> None:
    """Skip a test that needs the real Avahi when it is not there."""
    for program in ("avahi-daemon", "avahi-browse", "dbus-daemon"):
        if shutil.which(program) is None:
            _cannot_run(f"needs {program}: apt-get install avahi-daemon avahi-utils dbus")


def _cannot_run(reason: str) -> NoReturn:
    """Skip; in CI, where nothing may be skipped, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
