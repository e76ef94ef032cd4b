"""mcastpeer: test a multicast DTLS group with several peers in one process, or with one that follows the daemon."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from pskkey import __version__, arguments, program
from pskkey.errors import PeerError, PskkeyError
from pskkey.mcast import GroupSession, MulticastEndpoint
from pskkey.mcast.interface import ContradictoryInterfaces, MeantInterface
from pskkey.model import SENDER_IDS, Key, KeyEntry, KeyState, Suite
from pskkey.tools.mcastpeer.daemon_peer import daemon_peer
from pskkey.tools.mcastpeer.own_key_server import OwnKeyServer
from pskkey.tools.mcastpeer.peer import Peer

EPOCH = 1
DENIED = 4
"""The exit code for a user who may not read keys, as in pskkeyctl."""
SUITES = {
    "NULL_SHA256": Suite.WDM_WITH_NULL_SHA256,
    "CHACHA20_POLY1305": Suite.PSK_CHACHA20_POLY1305,
    "WDM_WITH_NULL_SHA256": Suite.WDM_WITH_NULL_SHA256,
    "PSK_CHACHA20_POLY1305": Suite.PSK_CHACHA20_POLY1305,
    "00FE": Suite.WDM_WITH_NULL_SHA256,
    "CCAB": Suite.PSK_CHACHA20_POLY1305,
}
LAST_DATAGRAMS = 0.2
"""Seconds to go on receiving after the last status was sent."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, checked."""

    peers: int
    rate: float
    size: int
    group: str
    port: int
    interface: str | None
    suite: Suite
    duration: float | None
    daemon: bool
    socket: str | None
    sender_id: int
    json: bool


def main() -> int:
    """Run the tool; return its exit code: 0 ok, 1 it or a peer has failed, 2 wrong usage, 4 denied."""
    return program.run("mcastpeer", _main)


def _main() -> int:
    given = sys.argv[1:]
    parser = _parser()
    if not given:
        parser.print_help(sys.stderr)
        return 2
    options = _options(parser, given)
    try:
        # A tool ends with a sentence where a session manager waits for its interface.
        MeantInterface(options.group, options.interface).check()
        return int(asyncio.run(_run(options)))
    except ContradictoryInterfaces as error:
        parser.error(str(error))
    except (PskkeyError, TimeoutError) as error:
        print(f"mcastpeer: {error}", file=sys.stderr)
        return DENIED if isinstance(error, PeerError) and error.code == "denied" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mcastpeer",
        usage="mcastpeer N [options]\n       mcastpeer --daemon [options]",
        description="Start a key server and N peers that send each other a status over multicast DTLS, until Ctrl+C.",
    )
    parser.add_argument(
        "peers", metavar="N", nargs="?", type=arguments.integer(1, SENDER_IDS), help="how many peers, 1..256"
    )
    parser.add_argument(
        "--rate",
        metavar="HZ",
        type=arguments.number(0.1, 10_000),
        default=50.0,
        help="statuses a second of each peer (50)",
    )
    parser.add_argument(
        "--size",
        metavar="BYTES",
        type=arguments.integer(1, 16384),
        default=64,
        help="size of a status, before it is protected (64)",
    )
    parser.add_argument(
        "--group",
        metavar="ADDR",
        default="239.255.0.1",
        help="IPv4 or IPv6, also with a zone, as in ff02::1%%eth0 (239.255.0.1)",
    )
    parser.add_argument("--port", type=arguments.integer(1, 65535), default=12345, help="UDP port (12345)")
    parser.add_argument(
        "--interface",
        metavar="NAME|ADDR",
        help="also by an alternative name or index (the loopback interface; with --daemon what the system chooses)",
    )
    parser.add_argument(
        "--suite", choices=SUITES, metavar="NULL_SHA256|CHACHA20_POLY1305", help="cipher suite (CHACHA20_POLY1305)"
    )
    parser.add_argument(
        "--duration", metavar="S", type=arguments.number(0.01, 1e9), help="seconds to send (until Ctrl+C)"
    )
    parser.add_argument("--daemon", action="store_true", help="run one peer, with the key of the local daemon")
    parser.add_argument("--socket", metavar="PATH", help="with --daemon: its keys.sock")
    parser.add_argument(
        "--sender-id",
        metavar="ID",
        type=arguments.integer(0, SENDER_IDS - 1),
        help="sender id of the first peer; the others follow (0)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--version", action="version", version=f"mcastpeer {__version__}")
    return parser


def _options(parser: argparse.ArgumentParser, given: Sequence[str]) -> Options:
    parsed = parser.parse_args(given)
    if parsed.daemon:
        if parsed.peers not in (None, 1):
            parser.error("--daemon is one peer; leave N out")
        if parsed.suite is not None or parsed.sender_id is not None:
            parser.error("the daemon gives the suite and the sender id; leave them out with --daemon")
    elif parsed.peers is None:
        parser.error("how many peers? Give N, 1..256")
    elif parsed.socket is not None:
        parser.error("--socket needs --daemon")
    peers, first = parsed.peers or 1, parsed.sender_id or 0
    if first + peers > SENDER_IDS:
        parser.error(f"{peers} peers from sender id {first} on do not fit into 0..{SENDER_IDS - 1}")
    interface = parsed.interface
    if interface is None and not parsed.daemon and "%" not in parsed.group:
        interface = "lo"
    return Options(
        peers=peers,
        rate=parsed.rate,
        size=parsed.size,
        group=parsed.group,
        port=parsed.port,
        interface=interface,
        suite=SUITES[parsed.suite or "CHACHA20_POLY1305"],
        duration=parsed.duration,
        daemon=parsed.daemon,
        socket=parsed.socket,
        sender_id=first,
        json=parsed.json,
    )


async def _run(options: Options) -> bool:
    """Run the peers and print their results; return whether one of them has failed."""
    stop = asyncio.Event()
    with _signals(stop):
        async with _peer_of_daemon(options) if options.daemon else _own_peers(options) as peers:
            await _send_all(options, peers, stop)
    _report(options, peers)
    return any(peer.failed for peer in peers)


def _peer_of_daemon(options: Options) -> AbstractAsyncContextManager[list[Peer]]:
    return daemon_peer(options.group, options.port, options.interface, options.socket, options.size)


@asynccontextmanager
async def _own_peers(options: Options) -> AsyncIterator[list[Peer]]:
    """Start the key server and the peers; each has its key and receives before the context begins."""
    server = OwnKeyServer(options.suite)
    senders = frozenset(range(options.sender_id, options.sender_id + options.peers))
    async with server.running():
        keys = await asyncio.gather(*(server.fetch() for _ in senders))
        with ExitStack() as endpoints:
            yield [_own_peer(options, number, key, senders, endpoints) for number, key in enumerate(keys)]


def _own_peer(options: Options, number: int, key: Key, senders: frozenset[int], endpoints: ExitStack) -> Peer:
    session = GroupSession(own_records=True)
    entry = KeyEntry(EPOCH, key, send=True)
    session.apply(KeyState(sender_id=options.sender_id + number, senders=senders, entries=(entry,)))
    peer = Peer(number, lambda status: endpoint.send(session.send(status)), options.size, first_sequence=0)

    def received(datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            message = session.receive(datagram)
            if message is not None:
                peer.count(message)

    endpoint = endpoints.enter_context(
        MulticastEndpoint(options.group, options.port, received, interface=options.interface)
    )
    return peer


async def _send_all(options: Options, peers: Sequence[Peer], stop: asyncio.Event) -> None:
    """Let all peers send until the duration is over or `stop` is set, and then receive the last datagrams."""
    sending = asyncio.create_task(_send_statuses(options, peers))
    stopping = asyncio.create_task(stop.wait())
    tasks = [sending, stopping]
    if sys.stderr.isatty():
        tasks.append(asyncio.create_task(_show_progress(peers)))
    try:
        await asyncio.wait((sending, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
    if not options.json:
        print("Stopping peers", flush=True)
    await asyncio.sleep(LAST_DATAGRAMS)


async def _send_statuses(options: Options, peers: Sequence[Peer]) -> None:
    begin = asyncio.get_running_loop().time()
    # Spread over one period, so that the peers do not all send in the same instant.
    spacing = 1 / options.rate / len(peers)
    async with asyncio.TaskGroup() as tasks:
        for index, peer in enumerate(peers):
            tasks.create_task(peer.send_statuses(options.rate, begin + index * spacing, options.duration))


async def _show_progress(peers: Sequence[Peer]) -> None:
    """Keep one line on the terminal up to date: all peers together, and per second."""
    loop = asyncio.get_running_loop()
    began, sent, received = loop.time(), 0, 0
    second = 1
    try:
        while True:
            await asyncio.sleep(began + second - loop.time())
            totals = [peer.totals for peer in peers]
            now_sent, now_received = sum(t.sent for t in totals), sum(t.received for t in totals)
            sys.stderr.write(
                f"\r{second} s  sent {now_sent} ({now_sent - sent}/s)  received {now_received} "
                f"({now_received - received}/s)  lost {sum(t.lost for t in totals)}\x1b[K"
            )
            sys.stderr.flush()
            sent, received = now_sent, now_received
            second += 1
    finally:
        sys.stderr.write("\n")


def _report(options: Options, peers: Sequence[Peer]) -> None:
    if not options.json:
        for peer in peers:
            elapsed = round(peer.elapsed * 1000)
            print(
                f"Peer {peer.number}: Ret {int(peer.failed)}, Elapsed {elapsed} ms, TX {peer.sent}, RX {peer.received}"
            )
        return
    results = []
    for peer in peers:
        totals = peer.totals
        results.append(
            {
                "peer": peer.number,
                "ret": int(peer.failed),
                "elapsed_ms": round(peer.elapsed * 1000),
                **totals._asdict(),
                "rate": round(totals.sent / peer.elapsed, 2) if peer.elapsed else 0.0,
                "receive_rate": round(totals.received / peer.elapsed, 2) if peer.elapsed else 0.0,
                "senders": {str(sender_id): counts for sender_id, counts in peer.by_sender().items()},
            }
        )
    print(json.dumps({"schema": 1, "group": options.group, "port": options.port, "peers": results}))


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let Ctrl+C and SIGTERM set `stop`."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(main())
