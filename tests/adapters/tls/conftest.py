"""PSK files, and the daemon's two TLS adapters."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.adapters.tls.ends import Ends
from tests.psk_files import write_psk


@pytest.fixture
def psk_path(tmp_path: Path) -> Path:
    """A PSK file with the identities `node` (active) and `spare`."""
    return write_psk(tmp_path / "group.psk", "node", "spare")


@pytest.fixture
async def ends(psk_path: Path) -> AsyncIterator[Ends]:
    """The daemon's key server, not started, and key client."""
    both = Ends(psk_path)
    async with AsyncExitStack() as stack:
        yield both
        stack.push_async_callback(lambda: both.server.stop())
        stack.push_async_callback(both.client.stop)
