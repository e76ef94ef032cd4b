"""TLS-PSK with a key client and a key server in C, on Debian's wolfSSL."""

import os
from pathlib import Path

import pytest

from pskkey import HandshakeError, Key, KeyClient, PskkeyError, Secret
from tests.interop.c_program import compile_c
from tests.interop.key_program import pack_key, run_key_client, run_key_server
from tests.keyserver.server_process import ServerProcess
from tests.psk_files import write_psk

SUITE = "TLS13-AES128-GCM-SHA256"


@pytest.fixture
def psk_path(tmp_path: Path) -> Path:
    """A PSK file with two identities."""
    return write_psk(tmp_path / "group.psk", "node", "spare")


@pytest.fixture(scope="module")
def tls_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the key client in C."""
    return compile_c(tmp_path_factory.mktemp("c"), "tls_client.c")


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the key server in C."""
    return compile_c(tmp_path_factory.mktemp("c"), "tls_server.c")


@pytest.mark.parametrize(
    ("suite", "version"),
    [
        ("TLS13-AES128-GCM-SHA256", "TLSv1.3"),
        ("ECDHE-PSK-CHACHA20-POLY1305", "TLSv1.2"),
    ],
)
def test_our_server_gives_a_wolfssl_client_its_key(tls_client: Path, psk_path: Path, suite: str, version: str) -> None:
    with ServerProcess(psk_path) as server:
        answer = run_key_client(tls_client, psk_path, server.port, suite)
        assert answer.report == f"{version} {suite}"
        assert answer.payload == pack_key(KeyClient(psk_path, port=server.port).get_key("127.0.0.1"))


@pytest.mark.parametrize("suite", ["TLS13-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"])
@pytest.mark.parametrize("identity", ["node", "nobody"])
def test_our_server_gives_nothing_to_a_wolfssl_client_without_the_psk(
    tls_client: Path, psk_path: Path, tmp_path: Path, suite: str, identity: str
) -> None:
    stranger = write_psk(tmp_path / "other.psk", identity)
    with ServerProcess(psk_path) as server:
        answer = run_key_client(tls_client, stranger, server.port, suite)
    assert answer.exit_code == 1
    assert answer.payload == b""


@pytest.mark.parametrize("size", [128, 132])
def test_our_client_takes_the_key_of_a_wolfssl_server(tls_server: Path, psk_path: Path, size: int) -> None:
    key = Key(Secret(b"\xfe\xfd" + os.urandom(46) + bytes(16)), os.urandom(32), os.urandom(32))
    payload = pack_key(key) if size == 128 else b"\x00\x07" + pack_key(key) + key.suite.to_bytes(2)
    with run_key_server(tls_server, psk_path, payload, "1.3", SUITE) as server:
        client = KeyClient(psk_path, port=server.port)
        assert [client.get_key("127.0.0.1") for _ in range(3)] == [key] * 3
        assert server.read_report() == SUITE


@pytest.mark.parametrize("identity", ["node", "nobody"])
def test_our_client_takes_nothing_from_a_wolfssl_server_without_the_psk(
    tls_server: Path, psk_path: Path, tmp_path: Path, identity: str
) -> None:
    stranger = write_psk(tmp_path / "other.psk", identity)
    with run_key_server(tls_server, stranger, bytes(128), "1.3", SUITE) as server:
        with pytest.raises(HandshakeError):
            KeyClient(psk_path, port=server.port).get_key("127.0.0.1")
        assert server.read_report() == "no key given"


@pytest.mark.parametrize("size", [0, 127, 131])
def test_our_client_takes_no_answer_of_another_size(tls_server: Path, psk_path: Path, size: int) -> None:
    with (
        run_key_server(tls_server, psk_path, bytes(size), "1.3", SUITE) as server,
        pytest.raises(PskkeyError, match=f"not {size}"),
    ):
        KeyClient(psk_path, port=server.port).get_key("127.0.0.1")
