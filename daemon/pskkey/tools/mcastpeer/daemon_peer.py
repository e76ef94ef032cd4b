"""The one peer of `mcastpeer --daemon`: it gets its key from the local daemon, and reports why it may not send."""

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
"""Seconds to wait for the daemon's first key state."""
READY_WITHIN: Final = 3.0
"""Seconds after which the peer begins although it is not ready, and reports why. A newcomer's rekey takes less."""
STATUS_WITHIN: Final = 1.0
"""Seconds for the daemon's status, which shows the sender of this node."""


@asynccontextmanager
async def daemon_peer(
    group: str, port: int, interface: str | None, socket: str | None, size: int
) -> AsyncIterator[list[Peer]]:
    """Run one member with the key of the local daemon. It may send and receive when the context begins, if possible."""
    keys = Path(socket or os.environ.get(KEYS_VARIABLE) or KEYS_SOCKET)
    async with join(group, port, interface=interface, path=keys, timeout=FIRST_STATE, own_records=True) as joined:
        peer = Peer(0, joined.send, size, first_sequence=None)

        async def receive() -> None:
            async for message in joined:
                peer.count(message)

        receiving = asyncio.create_task(receive())
        reporting = await _report_until_ready(joined, keys.with_name(CONTROL_SOCKET.name))
        try:
            yield [peer]
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)  # the other task raises the error
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                await receiving


async def _report_until_ready(joined: JoinedGroup, control: Path) -> asyncio.Task[None]:
    """Wait up to READY_WITHIN until the group can be used; return the task that reports it when it takes longer."""
    ready = asyncio.create_task(joined.ready())
    done, _ = await asyncio.wait([ready], timeout=READY_WITHIN)
    if done:
        return ready
    if not joined.has_interface:
        print("mcastpeer: it neither sends nor receives: its interface is gone", file=sys.stderr)
    elif joined.send_epoch is not None:
        print("mcastpeer: it only sends: the key to receive with is on its way", file=sys.stderr)
    else:
        is_leased = joined.sender_id is not None
        why = "its key is on its way" if is_leased else await asyncio.to_thread(_describe_obstacle, control)
        print(f"mcastpeer: it only receives: {why}", file=sys.stderr)

    async def report() -> None:
        await ready
        print("mcastpeer: it sends and receives now", file=sys.stderr)

    return asyncio.create_task(report())


def _describe_obstacle(control: Path) -> str:
    """Return why the daemon leases us no sender id, as far as its status shows."""
    with suppress(PskkeyError, TimeoutError):
        sessions = get_status(control, STATUS_WITHIN)[1].sessions
        for session in sessions:
            if session.sender and session.pid != os.getpid():
                sender = f"process {session.pid} of user {session.uid}"
                return f"{sender} sends for this node already, and one program of a node may; stop that one first"
    return "the daemon leases it no sender id; see the reason in `journalctl -u pskkeyd`"
