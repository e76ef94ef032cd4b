"""The key client in C, run once."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from pskkey import Key


class Answer(NamedTuple):
    """What the client got, and what it said: version and suite of the session, or why there was none."""

    exit_code: int
    payload: bytes
    said: str


def ask(program: Path, psk: Path, port: int, suite: str) -> Answer:
    """Let the client ask the key server on a port of 127.0.0.1."""
    done = subprocess.run([program, psk, str(port), suite], check=False, capture_output=True, timeout=30)
    return Answer(done.returncode, done.stdout, done.stderr.decode().strip())


def packed(key: Key) -> bytes:
    """The 128 bytes of a key as they stand in an answer."""
    return key.pms.reveal() + key.server_random + key.client_random
