"""pskkeyctl as a process of its own, beside a real daemon."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.lab.daemon import Daemon, environment

PSKKEYCTL: Final = Path(sys.executable).with_name("pskkeyctl")


@asynccontextmanager
async def started(daemon: Daemon, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run pskkeyctl during the block."""
    process = await asyncio.create_subprocess_exec(
        PSKKEYCTL, "--socket", daemon.control_socket, *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(daemon: Daemon, *arguments: str) -> tuple[int | None, str, str]:
    """Run pskkeyctl to its end; return its exit code, output and errors."""
    async with started(daemon, *arguments) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 40)
        return process.returncode, output.decode(), errors.decode()


async def event(process: asyncio.subprocess.Process, **wanted: object) -> dict[str, object]:
    """Return the next event of a monitor that has these values."""
    assert process.stdout is not None
    while True:
        found: dict[str, object] = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert found["schema"] == 1
        assert "time" in found
        if wanted.items() <= found.items():
            return found
