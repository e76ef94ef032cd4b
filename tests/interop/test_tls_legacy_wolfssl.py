"""The older C key client and key server: TLS 1.2 with a plain PSK, on a wolfSSL build with these suites."""

import os
import subprocess
from pathlib import Path

import pytest

from pskkey import HandshakeError, Key, KeyClient, Secret
from tests.interop.c_program import HERE, compile_c
from tests.interop.key_program import pack_key, run_key_client, run_key_server
from tests.keyserver import openssl
from tests.keyserver.server_process import ServerProcess
from tests.psk_files import write_psk

SUITE = "PSK-AES128-CBC-SHA256"
SUITES = (SUITE, "PSK-AES128-GCM-SHA256")
CERTIFICATE_SUITE = "ECDHE-RSA-AES128-GCM-SHA256"
VERSIONS = ("1.2", "any")
"""Of the server. One that speaks any version chooses TLS 1.3 if it is offered, also with suites of TLS 1.2 alone."""
KEY = Key(Secret(b"\xfe\xfd" + os.urandom(46) + bytes(16)), os.urandom(32), os.urandom(32))


@pytest.fixture(scope="module")
def wolfssl() -> Path:
    """Build wolfSSL with the suites."""
    built = subprocess.run([HERE / "build_wolfssl"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


@pytest.fixture(scope="module")
def tls_client(wolfssl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the key client."""
    return compile_c(tmp_path_factory.mktemp("c"), "tls_client.c", wolfssl=wolfssl)


@pytest.fixture(scope="module")
def tls_server(wolfssl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the key server."""
    return compile_c(tmp_path_factory.mktemp("c"), "tls_server.c", wolfssl=wolfssl)


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


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_takes_the_key_of_an_older_server_only_with_legacy_server(
    tls_server: Path, psk_path: Path, suite: str, version: str
) -> None:
    with run_key_server(tls_server, psk_path, pack_key(KEY), version, suite) as server:
        with pytest.raises(HandshakeError, match="an older C key server needs --legacy-server"):
            KeyClient(psk_path, port=server.port).get_key("127.0.0.1")
        assert server.read_report() == "no key given"
        client = KeyClient(psk_path, port=server.port, legacy_server=True)
        assert [client.get_key("127.0.0.1") for _ in range(3)] == [KEY] * 3
        assert [server.read_report() for _ in range(3)] == [suite] * 3


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("identity", ["node", "nobody"])
def test_our_client_takes_nothing_from_an_older_server_without_the_psk(
    tls_server: Path, psk_path: Path, tmp_path: Path, suite: str, identity: str
) -> None:
    stranger = write_psk(tmp_path / "other.psk", identity)
    with run_key_server(tls_server, stranger, pack_key(KEY), "1.2", suite) as server:
        with pytest.raises(HandshakeError, match="another key for our PSK identity"):
            KeyClient(psk_path, port=server.port, legacy_server=True).get_key("127.0.0.1")
        assert server.read_report() == "no key given"


@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_takes_nothing_from_an_older_server_with_a_certificate_alone(
    tls_server: Path, psk_path: Path, tmp_path: Path, version: str
) -> None:
    certificate = str(openssl.make_certificate(tmp_path / "server.pem"))
    with run_key_server(tls_server, psk_path, pack_key(KEY), version, CERTIFICATE_SUITE, certificate) as server:
        with pytest.raises(HandshakeError):
            KeyClient(psk_path, port=server.port, legacy_server=True).get_key("127.0.0.1")
        assert server.read_report() == "no key given"


def test_older_server_with_a_certificate_and_the_psk_uses_the_psk(
    tls_server: Path, psk_path: Path, tmp_path: Path
) -> None:
    certificate = str(openssl.make_certificate(tmp_path / "server.pem"))
    suites = f"{CERTIFICATE_SUITE}:{SUITE}"
    with run_key_server(tls_server, psk_path, pack_key(KEY), "1.2", suites, certificate) as server:
        assert KeyClient(psk_path, port=server.port, legacy_server=True).get_key("127.0.0.1") == KEY
        assert server.read_report() == SUITE
