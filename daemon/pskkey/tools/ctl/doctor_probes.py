"""Connections of `pskkeyctl doctor` to the nodes of the group: does each address lead to its node?

A server selects the application protocol of its own node (`adapters.tls.contexts`). So a client that offers the meant
node first, and then all others that it knows, learns which node has answered, with proof of the PSK.

A node needs one address that works. So the first address of each node comes first, then the second of those that have
not answered yet, and so on. The other addresses of nodes that have answered come last.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum, auto
from typing import Any, Final, NamedTuple

from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.contexts import client_context, explain_server_failure, node_protocol, require_psk
from pskkey.adapters.tls.tcp_connect import connect
from pskkey.config.psk import Psk
from pskkey.errors import HandshakeError
from pskkey.tools.ctl.network_reading import PeerStatus

AT_ONCE: Final = 16
"""Connections in progress."""
PROBE_WITHIN: Final = 2.0
"""Seconds for one connection with its handshake."""
BEGIN_WITHIN: Final = 5.0
"""Seconds after which no further connection begins."""
MAX_OFFERED: Final = 32
"""Nodes that one handshake names."""
_CLOSE_WITHIN: Final = 0.5


class Answer(StrEnum):
    """The result of a connection to an address."""

    MEANT = auto()
    """The meant node has answered."""
    OTHER = auto()
    """Another node of the group has answered."""
    CONNECTED = auto()
    """A program has accepted the connection; the PSK was not tried."""
    REFUSED = auto()
    UNREACHABLE = auto()
    NO_CONNECTION = auto()
    NO_HANDSHAKE = auto()
    """A program has accepted the connection, and then sent nothing in time."""
    FAILED = auto()
    """The handshake has failed."""
    NOT_TRIED = auto()
    """The time was over."""


GOOD: Final = frozenset({Answer.MEANT, Answer.CONNECTED})
"""The answers that show no fault."""


class Probe(NamedTuple):
    """A connection to an address of a node. `seconds` is the time of the TCP connection."""

    peer: PeerStatus
    address: str
    answer: Answer
    seconds: float = 0.0
    node_id: str | None = None
    """The node that answered; None: not known."""
    reason: str = ""
    is_this_machine: bool = False
    """Without a PSK: whether the connection has led to a program of this machine."""


async def probe_peers(peers: Sequence[PeerStatus], own_id: str, own_port: int, psk: Psk | None) -> list[Probe]:
    """Connect to each address of each node, AT_ONCE at a time. Without a PSK connect only, and begin no handshake.

    `own_port` is that of the key server of this node. The probes are in the order of the peers and their addresses.
    """
    ids, options = [own_id, *(peer.id for peer in peers)], SocketOptions(Counter())
    last_begin = time.monotonic() + BEGIN_WITHIN
    results: dict[tuple[str, str], Probe] = {}
    by_id = {peer.id: peer for peer in peers}
    waiting = {peer.id: deque(dict.fromkeys(peer.addresses)) for peer in by_id.values() if peer.addresses}
    begun, answered = Counter[str](), set[str]()

    def turn(node_id: str) -> tuple[bool, int]:
        return node_id in answered, begun[node_id]

    async def work() -> None:
        while waiting:
            peer = by_id[min(waiting, key=turn)]
            address = waiting[peer.id].popleft()
            begun[peer.id] += 1
            if not waiting[peer.id]:
                del waiting[peer.id]
            probe = Probe(peer, address, Answer.NOT_TRIED)
            if time.monotonic() <= last_begin:
                offered = [peer.id, *(node_id for node_id in ids if node_id != peer.id)][:MAX_OFFERED]
                probe = await _probe(peer, address, psk, offered, options)
            if probe.answer is Answer.CONNECTED and probe.is_this_machine and peer.port == own_port:
                probe = probe._replace(answer=Answer.OTHER, node_id=own_id)
            if probe.answer in GOOD:
                answered.add(peer.id)
            results[peer.id, address] = probe

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return [results[peer.id, address] for peer in by_id.values() for address in dict.fromkeys(peer.addresses)]


async def _probe(
    peer: PeerStatus, address: str, psk: Psk | None, offered: Sequence[str], options: SocketOptions
) -> Probe:
    began = time.monotonic()
    probe = Probe(peer, address, Answer.NO_CONNECTION)
    try:
        async with asyncio.timeout(PROBE_WITHIN):
            connected = await connect(address, peer.port, options)
            probe = probe._replace(seconds=time.monotonic() - began, answer=Answer.NO_HANDSHAKE)
            if psk is None:
                with connected:
                    is_this_machine = connected.getsockname()[0] == connected.getpeername()[0]
                return probe._replace(answer=Answer.CONNECTED, is_this_machine=is_this_machine)
            return await _shake_hands(probe, connected, psk, offered)
    except TimeoutError:
        return probe
    except ConnectionRefusedError:
        return probe._replace(answer=Answer.REFUSED)
    except OSError as error:
        return probe._replace(answer=Answer.UNREACHABLE, reason=error.strerror or "no connection")


async def _shake_hands(probe: Probe, connected: socket.socket, psk: Psk, offered: Sequence[str]) -> Probe:
    """Return the probe with the node that proves to have the PSK. Raises TimeoutError."""
    try:
        _, writer = await asyncio.open_connection(
            sock=connected, ssl=client_context(psk, offered), server_hostname="", ssl_shutdown_timeout=_CLOSE_WITHIN
        )
    except TimeoutError:
        raise
    except OSError as error:
        return probe._replace(answer=Answer.FAILED, reason=explain_server_failure(error, psk.identity))
    try:
        tls: Any = writer.get_extra_info("ssl_object")
        require_psk(tls)
    except HandshakeError as error:
        return probe._replace(answer=Answer.FAILED, reason=str(error))
    finally:
        writer.close()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
    selected = tls.selected_alpn_protocol()
    node_id = next((node_id for node_id in offered if node_protocol(node_id) == selected), None)
    answer = Answer.MEANT if node_id == probe.peer.id else Answer.OTHER
    return probe._replace(answer=answer, node_id=node_id)
