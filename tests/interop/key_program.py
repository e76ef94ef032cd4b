"""The key client in C, run once, and the key server in C."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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


class RunningServer(NamedTuple):
    """The running key server in C, on a port of 127.0.0.1."""

    port: int
    process: subprocess.Popen[bytes]

    def read_report(self) -> str:
        """Return its line on the next client: the suite, or that it gave no key."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


@contextmanager
def run_key_server(program: Path, psk: Path, payload: bytes, *arguments: str) -> Iterator[RunningServer]:
    """Run the server, which answers with `payload`. `arguments` are its further ones, as its source describes them."""
    with subprocess.Popen(
        [program, psk, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(payload)
        process.stdin.close()
        try:
            yield RunningServer(int(process.stdout.readline()), process)
        finally:
            process.kill()


def pack_key(key: Key) -> bytes:
    """Return the 128 bytes of a key as an answer carries them."""
    return key.pms.reveal() + key.server_random + key.client_random
