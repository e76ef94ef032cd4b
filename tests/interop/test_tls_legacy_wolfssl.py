"""The older C key client: TLS 1.2 with PSK-AES128-CBC-SHA256, on a wolfSSL build with this suite."""

import subprocess
from pathlib import Path

import pytest

from pskkey import KeyClient
from tests.interop.c_program import HERE, compile_c
from tests.interop.key_program import pack_key, run_key_client
from tests.keyserver.server_process import ServerProcess
from tests.psk_files import write_psk

SUITE = "PSK-AES128-CBC-SHA256"


@pytest.fixture(scope="module")
def tls_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the key client with a wolfSSL build that has the suite."""
    built = subprocess.run([HERE / "build_wolfssl"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return compile_c(tmp_path_factory.mktemp("c"), "tls_client.c", wolfssl=Path(built.stdout.strip()))


@pytest.fixture
def psk_path(tmp_path: Path) -> Path:
    """A PSK file."""
    return write_psk(tmp_path / "group.psk", "node")


def test_server_with_legacy_clients_gives_a_legacy_client_its_key(tls_client: Path, psk_path: Path) -> None:
    with ServerProcess(psk_path, "--legacy-clients") as server:
        answer = run_key_client(tls_client, psk_path, server.port, SUITE)
        assert answer.report == f"TLSv1.2 {SUITE}"
        assert answer.payload == pack_key(KeyClient(psk_path, port=server.port).get_key("127.0.0.1"))


def test_server_without_legacy_clients_refuses_one_and_names_the_setting(tls_client: Path, psk_path: Path) -> None:
    with ServerProcess(psk_path) as server:
        answer = run_key_client(tls_client, psk_path, server.port, SUITE)
        _, complaints, _ = server.stop()
    assert answer.exit_code == 1
    assert answer.payload == b""
    assert "legacy_clients" in complaints


def test_legacy_client_with_another_psk_gets_no_key(tls_client: Path, psk_path: Path, tmp_path: Path) -> None:
    stranger = write_psk(tmp_path / "other.psk", "node")
    with ServerProcess(psk_path, "--legacy-clients") as server:
        answer = run_key_client(tls_client, stranger, server.port, SUITE)
    assert answer.exit_code == 1
    assert answer.payload == b""
