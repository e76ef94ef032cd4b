"""The older C key client: TLS 1.2 with PSK-AES128-CBC-SHA256, on a wolfSSL that was built to have it."""

import subprocess
from pathlib import Path

import pytest

from pskkey import KeyClient
from tests.interop.c_program import HERE, compile_c
from tests.interop.key_program import ask, packed
from tests.keyserver.server_process import ServerProcess
from tests.psk_files import write_psk

SUITE = "PSK-AES128-CBC-SHA256"


@pytest.fixture(scope="module")
def tls_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key client, with a wolfSSL that has the suite."""
    built = subprocess.run([HERE / "build_wolfssl"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return compile_c(tmp_path_factory.mktemp("c"), "tls_client.c", wolfssl=Path(built.stdout.strip()))


@pytest.fixture
def psk_path(tmp_path: Path) -> Path:
    """A PSK file."""
    return write_psk(tmp_path / "group.psk", "node")


def test_gets_its_key_from_a_server_for_legacy_clients(tls_client: Path, psk_path: Path) -> None:
    with ServerProcess(psk_path, "--legacy-clients") as server:
        answer = ask(tls_client, psk_path, server.port, SUITE)
        assert answer.said == f"TLSv1.2 {SUITE}"
        assert answer.payload == packed(KeyClient(psk_path, port=server.port).get_key("127.0.0.1"))


def test_is_refused_by_any_other_server_which_says_what_would_help(tls_client: Path, psk_path: Path) -> None:
    with ServerProcess(psk_path) as server:
        answer = ask(tls_client, psk_path, server.port, SUITE)
        _, complaints, _ = server.stop()
    assert answer.exit_code == 1
    assert answer.payload == b""
    assert "legacy_clients" in complaints


def test_with_another_key_gets_nothing(tls_client: Path, psk_path: Path, tmp_path: Path) -> None:
    stranger = write_psk(tmp_path / "other.psk", "node")
    with ServerProcess(psk_path, "--legacy-clients") as server:
        answer = ask(tls_client, stranger, server.port, SUITE)
    assert answer.exit_code == 1
    assert answer.payload == b""
