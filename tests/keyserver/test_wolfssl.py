"""Key clients and key servers with wolfSSL, the library of those in C."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pskkey import Key, KeyClient, KeyServer, Secret
from pskkey.config.psk import Psk, load_psk
from tests.keyserver import wolfssl

TLS_1_3 = "wolfTLSv1_3_client_method"
TLS_1_2 = "wolfTLSv1_2_client_method"


@pytest.mark.parametrize(
    ("method", "cipher"),
    [
        (TLS_1_3, "TLS13-AES128-GCM-SHA256"),
        (TLS_1_2, "ECDHE-PSK-CHACHA20-POLY1305"),
    ],
)
def test_wolfssl_client_gets_its_key(serve: Callable[..., KeyServer], psk_path: Path, method: str, cipher: str) -> None:
    server = serve()
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connected,
        wolfssl.client(make_blocking(connected), load_psk(psk_path).active, method, cipher) as session,
    ):
        session.write(b"\x01\x01\x00\x00")
        answer = session.read(132)
    assert answer[:6] == b"\x01\x01\x00\x80\xfe\xfd"
    assert answer[4:68] == server.key.pms.reveal()


def test_wolfssl_client_with_another_key_gets_nothing(serve: Callable[..., KeyServer], psk_path: Path) -> None:
    stranger = Psk(load_psk(psk_path).active.identity, Secret(os.urandom(32)))
    with (
        socket.create_connection(("127.0.0.1", serve().port), timeout=10) as connected,
        pytest.raises(wolfssl.WolfSSLError),
        wolfssl.client(make_blocking(connected), stranger, TLS_1_3, "TLS13-AES128-GCM-SHA256"),
    ):
        pass


@pytest.mark.parametrize("size", [128, 132])
def test_our_client_gets_the_key_of_a_wolfssl_server(psk_path: Path, size: int) -> None:
    packed = b"\xfe\xfd" + os.urandom(46) + bytes(16) + os.urandom(64)
    answer = packed if size == 128 else b"\x00\x01" + packed + b"\xcc\xab"
    keys: list[Key] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = KeyClient(psk_path, port=listener.getsockname()[1])
        asking = threading.Thread(target=lambda: keys.append(client.get_key("127.0.0.1")))
        asking.start()
        accepted, _ = listener.accept()
        with (
            accepted,
            wolfssl.server(accepted, load_psk(psk_path).active, "TLS13-AES128-GCM-SHA256") as session,
        ):
            assert session.read(4) == b"\x01\x01\x00\x00"
            session.write(b"\x01\x01\x00" + bytes([size]) + answer)
            asking.join(10)
    assert keys == [Key(Secret(packed[:64]), packed[64:96], packed[96:])]


def make_blocking(connected: socket.socket) -> socket.socket:
    """Make a socket blocking. wolfSSL reads the descriptor itself, so the kernel must bound the wait, not Python."""
    connected.setblocking(True)
    return connected
