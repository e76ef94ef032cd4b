"""Keys per second that one core serves over TLS-PSK: the stand-alone key server, the daemon's one, and a bare server.

Each client connects, does the handshake, requests the key, and closes. The goals are ratios within one run, because an
absolute rate depends on the machine. The bare server is asyncio's, with one TLS context for all connections. It answers
with a key message that it has ready, and knows neither clients nor limits. The daemon's server is its adapter for
inbound sessions, without the core.

A rate counts the processor time of the server and not the clock, because other processes may use the core in between.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, TypedDict

from pskkey.adapters.host.entropy import random_key
from pskkey.adapters.tls.contexts import CURVE, client_context
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.config.psk import PskFile, load_psk
from pskkey.core.events import Event, Received
from pskkey.keyserver.request_server import RequestServer
from pskkey.model import KeyRequest, KeyResponse, Suite
from pskkey.wire.packet import encode
from tests.psk_files import write_psk

REQUESTS: Final = 50
ROUNDS: Final = 60
"""They are short and many, because the load of other processes changes the rates of one core."""
QUESTION: Final = encode(KeyRequest())
KEY: Final = KeyResponse(random_key(Suite.PSK_CHACHA20_POLY1305))
ANSWER: Final = encode(KEY)

type Serve = Callable[[PskFile], Awaitable[int]]
"""Starts a server on a free port of 127.0.0.1, and returns the port."""


class Goal(TypedDict):
    """The ratio of a rate to that of the bare server: the least median, the measured median, and the worst round."""

    least: float
    median: float
    worst: float
    met: bool


LEAST: Final = {"pskkey-server": 1.0, "inbound sessions": 1.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="tests/bench/keys", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each server is measured ({ROUNDS})")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        psk = load_psk(write_psk(Path(directory) / "group.psk", "node"))
        rounds = _measure(psk, options.rounds)
    rates = {name: statistics.median(each[name] for each in rounds) for name in SERVERS}
    goals = {name: _judge(least, [each[name] / each["bare"] for each in rounds]) for name, least in LEAST.items()}
    met = all(goal["met"] for goal in goals.values())
    if options.json:
        print(json.dumps({"schema": 1, "rounds": len(rounds), "rates": rates, "goals": goals}))
    else:
        print("keys per second of one core, medians, and times as many as the bare server: median, worst, goal")
        for name, rate in rates.items():
            goal = goals.get(name)
            ratios = "" if goal is None else f"{goal['median']:>8.2f}{goal['worst']:>8.2f}{goal['least']:>8.2f}"
            print(f"{name:<20}{rate:>8,.0f}{ratios}")
        print("all goals met" if met else "a goal was missed")
    return 0 if met else 1


def _measure(psk: PskFile, rounds: int) -> list[dict[str, float]]:
    """Return the rate of each server in each round."""
    servers = {name: Server(serve, psk) for name, serve in SERVERS.items()}
    try:
        for server in servers.values():
            server.measure()
        # All are measured in each round, so that a change of the machine's load affects all of them alike.
        return [{name: server.measure() for name, server in servers.items()} for _ in range(rounds)]
    finally:
        for server in servers.values():
            server.stop()


def _judge(least: float, ratios: Sequence[float]) -> Goal:
    median = statistics.median(ratios)
    return {"least": least, "median": median, "worst": min(ratios), "met": median >= least}


async def _serve_bare(psk: PskFile) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ecdh_curve(CURVE)
    context.num_tickets = 0
    context.set_psk_server_callback(lambda identity: psk.accepted[identity or ""].reveal())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(len(QUESTION)):
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _serve_stand_alone(psk: PskFile) -> int:
    server = RequestServer(psk, KEY.key, False, {}, lambda _: None)
    await server.start(["127.0.0.1"], 0)
    return server.addresses[0][1]


async def _serve_sessions(psk: PskFile) -> int:
    def answer(event: Event) -> None:
        if isinstance(event, Received):
            server.send(event.session, KEY)

    server = InboundSessions("0" * 16, lambda: psk, False, ServerLimits(), answer, Counter())
    await server.start(["127.0.0.1"], 0)
    return server.port or 0


SERVERS: Final[dict[str, Serve]] = {
    "bare": _serve_bare,
    "pskkey-server": _serve_stand_alone,
    "inbound sessions": _serve_sessions,
}


def _run(serve: Serve, psk: PskFile, ready: Connection) -> None:
    async def run() -> None:
        ready.send(await serve(psk))
        await asyncio.Event().wait()

    asyncio.run(run())


def _request(psk: PskFile, port: int, count: int) -> None:
    context = client_context(psk.active)
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(connected) as session:
                session.sendall(QUESTION)
                if len(session.recv(len(ANSWER))) != len(ANSWER):
                    raise AssertionError("the server did not answer with a key")


class Server:
    """A server in a process of its own."""

    def __init__(self, serve: Serve, psk: PskFile) -> None:
        own_end, far_end = multiprocessing.Pipe()
        self._psk = psk
        self._process = multiprocessing.Process(target=_run, args=(serve, psk, far_end))
        self._process.start()
        self._port: int = own_end.recv()

    def measure(self) -> float:
        """Return the keys per second of the server's processor time."""
        before = _processor_time(self._process.pid or 0)
        _request(self._psk, self._port, REQUESTS)
        return REQUESTS / (_processor_time(self._process.pid or 0) - before)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _processor_time(pid: int) -> float:
    """Return the processor time of a process in seconds (/proc/PID/schedstat has nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    sys.exit(main())
