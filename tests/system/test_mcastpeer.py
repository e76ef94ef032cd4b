"""`mcastpeer --daemon` beside another program that sends for the same node, with a real daemon."""

import asyncio
import os
import subprocess
import sys

from pskkey.client.watcher import AsyncKeyWatcher
from tests.system.loopback import Loopback
from tests.system.pskkeyctl_process import run

TOOL = (sys.executable, "-m", "pskkey.tools.mcastpeer.mcastpeer")


async def test_mcastpeer_names_the_program_that_sends_already(loopback: Loopback, unused_udp_port: int) -> None:
    daemon = loopback.daemon("n0")
    daemon.start()
    assert (await run(daemon, "wait", "--synced"))[0] == 0
    async with AsyncKeyWatcher(daemon.keys_socket, will_send=True) as watcher:
        assert (await watcher.wait(5)).sender_id is not None
        tool = await asyncio.create_subprocess_exec(
            *TOOL, "--daemon", "--socket", daemon.keys_socket, "--interface", "lo", "--port", str(unused_udp_port),
            "--duration", "3", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(tool.communicate(), 30)
    assert tool.returncode == 0
    assert b"TX 0, RX 0" in output
    assert errors.decode() == (
        f"mcastpeer: it only receives: process {os.getpid()} of user {os.getuid()} sends for this node already, and "
        "one program of a node may; stop that one first\n"
    )
