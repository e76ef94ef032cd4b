"""Keys per second that one core serves over TLS-PSK: the stand-alone key server, the daemon's one, and a bare server.

Each client connects, does the handshake, requests the key, and closes. The goals are ratios within one run, because an
absolute rate depends on the machine. The bare server is asyncio's (`bare_key_server`). The daemon's server is its
adapter for inbound sessions, without the core.

A rate counts the processor time of the server and not the clock, because other processes may use the core in between.
Each server is a program of its own: asyncio's TLS has a buffer of 256 KiB for each connection, and whether that costs
30 page faults or none depends on what else the process has loaded.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self, TypedDict

from pskkey.adapters.host.entropy import random_key
from pskkey.adapters.tls.contexts import CURVE, client_context
from pskkey.config.psk import PskFile, load_psk
from pskkey.model import KeyRequest, KeyResponse, Suite
from pskkey.wire.packet import encode
from tests.psk_files import write_psk

REQUESTS: Final = 50
ROUNDS: Final = 60
"""They are short and many, because the load of other processes changes the rates of one core."""
ROUNDS_OF_A_PROCESS: Final = 6
"""Where its memory lies makes a process faster or slower by a tenth, so each server is started again and again."""
QUESTION: Final = encode(KeyRequest())
ANSWER: Final = encode(KeyResponse(random_key(Suite.PSK_CHACHA20_POLY1305)))


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
        path = write_psk(Path(directory) / "group.psk", "node")
        rounds: list[dict[str, float]] = []
        while len(rounds) < options.rounds:
            rounds += _measure(path, min(ROUNDS_OF_A_PROCESS, options.rounds - len(rounds)))
    rates = {name: statistics.median(each[name] for each in rounds) for name in ("bare", *LEAST)}
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


def _measure(psk_path: Path, rounds: int) -> list[dict[str, float]]:
    """Start the servers and return the rate of each one in each round."""
    psk = load_psk(psk_path)
    keys = {identity: key.reveal().hex() for identity, key in psk.accepted.items()}
    settings = {"keys": keys, "curve": CURVE, "question": len(QUESTION), "answer": ANSWER.hex()}
    with ExitStack() as stack:
        servers = {"bare": stack.enter_context(Server(psk, ["tests.bench.bare_key_server"], json.dumps(settings)))}
        for name in LEAST:
            servers[name] = stack.enter_context(Server(psk, ["tests.bench.own_key_servers", name, str(psk_path)]))
        for server in servers.values():
            server.measure()
        # All are measured in each round, so that a change of the machine's load affects all of them alike.
        return [{name: server.measure() for name, server in servers.items()} for _ in range(rounds)]


def _judge(least: float, ratios: Sequence[float]) -> Goal:
    median = statistics.median(ratios)
    return {"least": least, "median": median, "worst": min(ratios), "met": median >= least}


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
    """A server in a process of its own. `module` is a module that prints its port, and its arguments."""

    def __init__(self, psk: PskFile, module: Sequence[str], settings: str = "") -> None:
        self._psk = psk
        self._process = subprocess.Popen(
            [sys.executable, "-m", *module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("a process with pipes has both")
        with self._process.stdin as stdin:
            stdin.write(settings)
        with self._process.stdout as stdout:
            self._port = int(stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def measure(self) -> float:
        """Return the keys per second of the server's processor time."""
        before = _processor_time(self._process.pid)
        _request(self._psk, self._port, REQUESTS)
        return REQUESTS / (_processor_time(self._process.pid) - before)


def _processor_time(pid: int) -> float:
    """Return the processor time of a process in seconds (/proc/PID/schedstat has nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    sys.exit(main())
