"""The real `openssl` command as a key client, and as a server that is not ours."""

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from pskkey.config.psk import Psk

KEY_REQUEST = b"\x01\x01\x00\x00"
TLS_1_3 = ("-tls1_3",)
TLS_1_3_CHACHA = ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256")
TLS_1_3_AES128 = ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256")
ECDHE_PSK = ("-tls1_2", "-cipher", "ECDHE-PSK-CHACHA20-POLY1305")
LEGACY_CBC = ("-tls1_2", "-cipher", "PSK-AES128-CBC-SHA256")
LEGACY_GCM = ("-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256")


class Exchange(NamedTuple):
    """The bytes that `openssl s_client` got from the server, and its text on standard error."""

    answer: bytes
    complaint: str


def ask(port: int, psk: Psk, options: Sequence[str], question: bytes = KEY_REQUEST, expect: int = 132) -> Exchange:
    """Send `question` with `openssl s_client` and read until `expect` bytes have arrived or the connection ends."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", *options]
    command += ["-psk", psk.key.reveal().hex(), "-psk_identity", psk.identity]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        try:
            with suppress(
                BrokenPipeError
            ):  # the server refused it and it has ended; the bytes that it got still decide
                client.stdin.write(question)
            answer = read_until(client.stdout.fileno(), expect)
        finally:
            client.kill()
        return Exchange(answer, client.stderr.read().decode(errors="replace"))


def read_until(descriptor: int, size: int, timeout: float = 10.0) -> bytes:
    """Read `size` bytes, or fewer when the other end closes; fail the test when neither happens in time."""
    data = b""
    deadline = time.monotonic() + timeout
    while len(data) < size:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"only {len(data)} of {size} bytes came within {timeout} s"
        piece = os.read(descriptor, size - len(data))
        if not piece:
            break
        data += piece
    return data


def make_certificate(path: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and its private key to one file."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    both = subprocess.run(
        [*make, "-keyout", "-", "-out", "-", "-subj", "/CN=127.0.0.1"], check=True, capture_output=True
    )
    path.write_bytes(both.stdout)
    return path


@contextmanager
def certificate_server(directory: Path, *tls: str) -> Iterator[tuple[int, Path]]:
    """Run `openssl s_server` (`-tls1_3` unless `tls` has other options) with a self-signed certificate and no PSK.

    Yields its port and the file in which it records all that it sends and receives.
    """
    both, transcript = str(make_certificate(directory / "rogue.pem")), directory / "transcript"
    options = [*(tls or TLS_1_3), "-key", both, "-cert", both, "-msg"]
    with transcript.open("wb") as output, _server(options, output) as run:
        yield run.port, transcript


@contextmanager
def psk_server(psk: Psk, *tls: str, takes_commands: bool = False) -> Iterator["Server"]:
    """Run `openssl s_server` (`-tls1_3` unless `tls` has other options) with a PSK: TLS as a key server in C speaks it.

    It has no certificate unless `tls` has one. If it takes commands, its standard output has also text of its own, and
    a line `r` on its standard input makes it renegotiate.
    """
    certificate = [] if "-cert" in tls else ["-nocert"]
    options = [*(tls or TLS_1_3), *certificate, "-psk", psk.key.reveal().hex(), "-psk_identity", psk.identity]
    options += [] if takes_commands else ["-quiet"]
    with _server(options, subprocess.PIPE) as run:
        yield run


class Server(NamedTuple):
    """A running `openssl s_server`: its standard output has the bytes of clients, its standard input goes to them."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def _server(options: Sequence[str], output: int | IO[bytes]) -> Iterator[Server]:
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        try:
            deadline = time.monotonic() + 10
            while not _is_listened_on(port):
                assert process.poll() is None, "openssl s_server ended"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield Server(port, process)
        finally:
            process.kill()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _is_listened_on(port: int) -> bool:
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in table)
