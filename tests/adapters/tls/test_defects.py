"""A defect of the owner of a connection ends that connection only."""

import asyncio
import ssl
from collections import Counter

from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.connection import TlsConnection
from pskkey.adapters.tls.contexts import client_context
from pskkey.adapters.tls.listener import ServerLimits, TlsListener
from tests.adapters.tls.ends import Ends


class DefectiveOwner:
    """Fails at whatever it receives."""

    def __init__(self) -> None:
        self.lost_for: asyncio.Queue[str] = asyncio.Queue()

    def opened(self, connection: TlsConnection) -> None:
        pass

    def received(self, connection: TlsConnection, data: bytes) -> None:  # noqa: ARG002
        raise ZeroDivisionError

    def lost(self, connection: TlsConnection, reason: str) -> None:  # noqa: ARG002
        self.lost_for.put_nowait(reason)


async def test_connection_is_lost_once_and_keeps_no_place(ends: Ends) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context.get("exception")))
    owner, counters = DefectiveOwner(), Counter[str]()
    listener = TlsListener(lambda: ends.psk, False, ServerLimits(), owner, b"", counters, SocketOptions(counters))
    await listener.start(["127.0.0.1"], 0)
    context: ssl.SSLContext = client_context(ends.psk.active)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context, server_hostname="")
    writer.write(b"a")
    writer.write(b"b")
    await asyncio.wait_for(owner.lost_for.get(), 5)
    await reader.read()
    writer.transport.abort()
    await asyncio.wait_for(listener.stop(), 5)
    assert owner.lost_for.empty()
    assert failures
    assert all(isinstance(failure, ZeroDivisionError) for failure in failures)
