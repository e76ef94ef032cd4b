"""`pskkey-server` and `pskkey-client` as commands: their output and their exit codes."""

import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pskkey.config.psk import load_psk
from tests.keyserver import openssl
from tests.keyserver.server_process import ServerProcess
from tests.psk_files import write_psk


@pytest.fixture
def start(psk_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start `pskkey-server` on a free port of 127.0.0.1, with more options."""
    started: list[ServerProcess] = []

    def run(*options: str) -> ServerProcess:
        started.append(ServerProcess(psk_path, *options))
        return started[-1]

    yield run
    for server in started:
        server.stop()


def client(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pskkey.keyserver.pskkey_client", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Assert the exit code and one sentence on standard error; return it."""
    assert done.returncode == code, done.stderr
    assert re.fullmatch(r"pskkey-(client|server): [^\n]+\n", done.stderr), done.stderr
    return done.stderr


def test_both_print_the_lines_of_a_request_and_no_key(
    start: Callable[..., ServerProcess], psk_path: Path, tmp_path: Path
) -> None:
    server = start()
    stored = tmp_path / "key"
    stored.write_text("the old one")
    done = client("127.0.0.1", "--psk-file", psk_path, "--port", server.port, "--output", stored)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    request, response, fingerprint = done.stdout.splitlines()
    assert request == "Request: Version 1, Cmd 1, Size 0"
    assert response == "Response: Version 1, Cmd 1, Size 128"
    assert re.fullmatch("Fingerprint: [0-9a-f]{16}", fingerprint)

    printed, complained, code = server.stop()
    assert code == 0
    connection, *lines = printed.splitlines()
    assert re.fullmatch(r"Connection from 127\.0\.0\.1, port \d+", connection)
    assert lines == [request, response]

    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".key*")) == []
    key = stored.read_bytes()
    assert len(key) == 128
    assert key[:2] == b"\xfe\xfd"
    assert key[48:64] == bytes(16)
    output = (done.stdout + printed + complained).lower()
    secrets = [key[:64], key[2:18], key[64:96], *(psk.reveal() for psk in load_psk(psk_path).accepted.values())]
    assert not [secret for secret in secrets if secret.hex() in output or repr(secret)[2:-1].lower() in output]


def test_sigint_ends_the_server(start: Callable[..., ServerProcess]) -> None:
    assert start().stop(signal.SIGINT)[2] == 0


def test_server_accepts_older_c_clients_only_with_its_option(
    start: Callable[..., ServerProcess], psk_path: Path
) -> None:
    psk = load_psk(psk_path).active
    assert len(openssl.ask(start("--legacy-clients").port, psk, openssl.LEGACY_CBC).answer) == 132
    server = start()
    assert openssl.ask(server.port, psk, openssl.LEGACY_CBC).answer == b""
    assert "older C clients need legacy_clients" in server.stop()[1]


def test_client_reports_why_it_is_denied(start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = start()
    wrong = write_psk(tmp_path / "wrong.psk", "node", "stranger")
    assert "another key" in complaint(client("127.0.0.1", "--psk-file", wrong, "--port", server.port), 4)
    options = ("--psk-file", wrong, "--port", server.port, "--identity", "stranger", "--bind", "127.0.0.5")
    assert "'stranger'" in complaint(client("127.0.0.1", *options), 4)
    _printed, complained, _code = server.stop()
    assert "127.0.0.1: its key for this identity is not ours (wrong PSK) (PSK identity 'node')" in complained
    assert "127.0.0.5: it offered the PSK identity 'stranger', which our PSK file does not have" in complained


def test_client_sends_nothing_to_a_rogue_server(psk_path: Path, tmp_path: Path) -> None:
    with openssl.certificate_server(tmp_path) as (port, _transcript):
        done = client("127.0.0.1", "--psk-file", psk_path, "--port", port)
    assert "presented a certificate" in complaint(done, 4)
    assert "Response" not in done.stdout


def test_client_gets_the_key_of_an_older_server_only_with_its_option(psk_path: Path) -> None:
    with openssl.psk_server(load_psk(psk_path).active, *openssl.LEGACY_CBC) as (port, server):
        there = ("127.0.0.1", "--psk-file", psk_path, "--port", port)
        assert "an older C key server needs --legacy-server" in complaint(client(*there), 4)
        assert server.stdin is not None
        server.stdin.write(b"\x01\x01\x00\x80\xfe\xfd" + bytes(126))
        done = client(*there, "--legacy-server")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Fingerprint: " in done.stdout


def test_client_without_the_psk_is_denied_by_an_older_server(psk_path: Path, tmp_path: Path) -> None:
    wrong = write_psk(tmp_path / "wrong.psk", "node")
    with openssl.psk_server(load_psk(psk_path).active, *openssl.LEGACY_CBC) as (port, _server):
        done = client("127.0.0.1", "--legacy-server", "--psk-file", wrong, "--port", port)
    assert "wrong PSK" in complaint(done, 4)
    assert "Response" not in done.stdout


def test_client_exit_codes_without_a_server(psk_path: Path, tmp_path: Path) -> None:
    there = ("--psk-file", psk_path, "--port", openssl.free_port())
    assert "refused the connection" in complaint(client("127.0.0.1", *there), 3)
    assert "cannot be reached" in complaint(client("224.0.0.1", *there), 3)
    assert "does not exist" in complaint(client("127.0.0.1", "--psk-file", tmp_path / "missing"), 2)
    assert "no identity 'x'" in complaint(client("127.0.0.1", *there, "--identity", "x"), 2)
    with openssl.psk_server(load_psk(psk_path).active) as (port, _server):
        silent = client("127.0.0.1", "--psk-file", psk_path, "--port", port, "--timeout", "2.0")
    assert "did not answer" in complaint(silent, 5)


@pytest.mark.parametrize("options", [[], ["127.0.0.1"], ["127.0.0.1", "--psk-file", "x", "--port", "70000"]])
def test_client_reports_usage_mistakes(options: list[str]) -> None:
    done = client(*options)
    assert done.returncode == 2
    assert "usage: pskkey-client" in done.stderr


def test_key_is_stored_only_in_a_regular_file(
    start: Callable[..., ServerProcess], psk_path: Path, tmp_path: Path
) -> None:
    there = ("127.0.0.1", "--psk-file", psk_path, "--port", start().port, "--output")
    assert "not a regular file" in complaint(client(*there, "/dev/stdout"), 2)
    assert "No such file" in complaint(client(*there, tmp_path / "missing" / "key"), 1)
    assert list(tmp_path.glob("**/*key*")) == []


def test_server_refuses_unusable_addresses_and_files(
    psk_path: Path, tmp_path: Path, start: Callable[..., ServerProcess]
) -> None:
    def server(*options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pskkey.keyserver.pskkey_server", *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    taken = start().port
    there = ("--psk-file", psk_path, "--bind", "127.0.0.1", "--port")
    assert f"port {taken} of 127.0.0.1 is in use" in complaint(server(*there, taken), 2)
    elsewhere = ("--psk-file", psk_path, "--bind", "192.0.2.1")
    assert "192.0.2.1 is not an address of this machine" in complaint(server(*elsewhere), 2)
    assert "'all' is not an IP address" in complaint(server("--psk-file", psk_path, "--bind", "all"), 2)
    psk_path.chmod(0o644)
    assert "every user of this machine" in complaint(server(*there, 0), 2)
    assert "does not exist" in complaint(server("--psk-file", tmp_path / "missing"), 2)
    assert server().returncode == 2
