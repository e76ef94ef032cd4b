"""The one peer of `mcastpeer --daemon`: it has its key from the local daemon, and says why if it may not send."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from pskkey.client.watch_protocol import DEFAULT_SOCKET as KEYS_SOCKET
from pskkey.client.watch_protocol import SOCKET_VARIABLE as KEYS_VARIABLE
from pskkey.errors import PskkeyError
from pskkey.mcast import JoinedGroup, join
from pskkey.tools.ctl.control_client import DEFAULT_SOCKET as CONTROL_SOCKET
from pskkey.tools.ctl.control_client import get_status
from pskkey.tools.mcastpeer.peer import Peer

FIRST_STATE: Final = 5.0
"""Seconds to wait for the daemon's first word."""
READY_WITHIN: Final = 3.0
"""Seconds after which it begins all the same, and reports why; the rekey that a newcomer needs takes less."""
STATUS_WITHIN: Final = 1.0
"""Seconds for the daemon to tell who sends."""


@asynccontextmanager
async def daemon_peer(
    group: str, port: int, interface: str | None, socket: str | None, size: int
) -> AsyncIterator[list[Peer]]:
    """Be one member with what the local daemon gives; it sends and receives before the context begins, if it may."""
    keys = Path(socket or os.environ.get(KEYS_VARIABLE) or KEYS_SOCKET)
    async with join(group, port, interface=interface, path=keys, timeout=FIRST_STATE, own_records=True) as joined:
        peer = Peer(0, joined.send, size, first_sequence=None)

        async def receive() -> None:
            async for message in joined:
                peer.count(message)

        receiving = asyncio.create_task(receive())
        telling = await _report_until_ready(joined, keys.with_name(CONTROL_SOCKET.name))
        try:
            yield [peer]
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)  # what ended the group is raised by the other
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                await receiving


async def _report_until_ready(joined: JoinedGroup, control: Path) -> asyncio.Task[None]:
    """Wait for a while until the group can be used; return the task that reports when it can, later than that."""
    ready = asyncio.create_task(joined.ready())
    done, _ = await asyncio.wait([ready], timeout=READY_WITHIN)
    if done:
        return ready
    if joined.send_epoch is not None:
        print("mcastpeer: it only sends: the key to receive with is on its way", file=sys.stderr)
    else:
        why = await asyncio.to_thread(_why_not, control) if joined.sender_id is None else "its key is on its way"
        print(f"mcastpeer: it only receives: {why}", file=sys.stderr)

    async def report() -> None:
        await ready
        print("mcastpeer: it sends and receives now", file=sys.stderr)

    return asyncio.create_task(report())


def _why_not(control: Path) -> str:
    """Return why the daemon leases us no sender id, as far as it tells us."""
    with suppress(PskkeyError, TimeoutError):
        sessions = get_status(control, STATUS_WITHIN)[1].sessions
        for session in sessions:
            if session.sender and session.pid != os.getpid():
                who = f"process {session.pid} of user {session.uid}"
                return f"{who} sends for this node already, and one program of a node may; stop that one first"
    return "the daemon gives it no sender id; its log says why, see `journalctl -u pskkeyd`"
