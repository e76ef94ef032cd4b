"""PSK files, and a key server that runs in a thread beside the test."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pskkey import KeyServer
from tests.psk_files import write_psk


@pytest.fixture
def psk_path(tmp_path: Path) -> Path:
    """A PSK file with the identities `node` (active) and `spare`."""
    return write_psk(tmp_path / "group.psk", "node", "spare")


@pytest.fixture
def serve(psk_path: Path) -> Iterator[Callable[..., KeyServer]]:
    """Start a KeyServer on 127.0.0.1 and a free port, with further arguments of its constructor."""
    running: list[tuple[KeyServer, threading.Thread]] = []

    def start(**arguments: Any) -> KeyServer:  # of all types of the constructor
        settings: dict[str, Any] = {"psk_file": psk_path, "bind": "127.0.0.1", "port": 0}
        server = KeyServer(**(settings | arguments))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        assert server.wait_until_running(10)
        return server

    yield start
    for server, thread in running:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert not server.is_running
