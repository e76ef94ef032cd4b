"""The key client in C, run once."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from pskkey import Key


class Answer(NamedTuple):
    """The result of the client. `report` has the version and the suite of the session, or the reason of a failure."""

    exit_code: int
    payload: bytes
    report: str


def run_key_client(program: Path, psk: Path, port: int, suite: str) -> Answer:
    """Run the client against the key server on a port of 127.0.0.1."""
    done = subprocess.run([program, psk, str(port), suite], check=False, capture_output=True, timeout=30)
    return Answer(done.returncode, done.stdout, done.stderr.decode().strip())


def pack_key(key: Key) -> bytes:
    """Return the 128 bytes of a key as an answer carries them."""
    return key.pms.reveal() + key.server_random + key.client_random
