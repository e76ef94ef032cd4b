"""The memory that a TLS session takes in the key server: idle, and after large messages in both directions.

The server is a process of its own, so that its resident memory can be measured.
"""

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import load_psk
from pskkey.wire.frame import OPTIONAL_LIMIT, encode_frame
from pskkey.wire.packet import encode
from tests.adapters.tls.ends import JOIN
from tests.adapters.tls.session_server import GROUP
from tests.psk_files import write_psk
from tests.quality.tracked import ROOT

SESSIONS = 200
GOAL = 64
"""KiB for each session in all."""
UNKNOWN_TYPE = 200
ANSWER_SIZE = len(encode(GROUP))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], ssl.SSLContext]]:
    psk_path = write_psk(tmp_path / "group.psk", "node")
    command = [sys.executable, "-m", "tests.adapters.tls.session_server", str(psk_path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield running, client_context(load_psk(psk_path).active)
    finally:
        running.terminate()
        running.communicate(timeout=10)


def memory_of(process: subprocess.Popen[str]) -> int:
    """Return its resident memory in KiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def join(session: ssl.SSLSocket) -> None:
    """Send large packets, which this version skips, and a JOIN. Read the whole GROUP that answers it."""
    session.sendall(encode_frame(UNKNOWN_TYPE, bytes(OPTIONAL_LIMIT)) * 8 + encode(JOIN))
    left = ANSWER_SIZE
    while left:
        piece = session.recv(min(left, 65536))
        assert piece
        left -= len(piece)


def test_session_takes_at_most_64_kib(server: tuple[subprocess.Popen[str], ssl.SSLContext]) -> None:
    process, context = server
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with ExitStack() as stack:

        def connect() -> ssl.SSLSocket:
            connected = socket.create_connection(("127.0.0.1", port), timeout=20)
            session = stack.enter_context(context.wrap_socket(connected))
            session.sendall(encode_frame(UNKNOWN_TYPE, b""))
            return session

        for _ in range(3):
            join(connect())  # the first ones load what all need
        before = memory_of(process)
        sessions = [connect() for _ in range(SESSIONS)]
        join(sessions[0])  # its answer comes after the server has the packets of all
        idle = (memory_of(process) - before) / SESSIONS
        for session in sessions:
            join(session)
        used = (memory_of(process) - before) / SESSIONS
    print(f"KiB for each session: idle {idle:.1f}, after a message of {ANSWER_SIZE} bytes {used:.1f}")
    assert max(idle, used) <= GOAL
