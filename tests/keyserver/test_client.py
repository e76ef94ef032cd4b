"""Our blocking client with real servers: ours, `openssl s_server`, a rogue server, and none at all."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pskkey import HandshakeError, Key, KeyClient, KeyServer, NoAnswer, PeerError, Secret, Suite, Unreachable
from pskkey.config.psk import PskFile, load_psk
from pskkey.errors import BadPacket, PskkeyError
from tests.keyserver import openssl
from tests.no_descriptors import no_descriptor_left
from tests.psk_files import write_psk

type Serve = Callable[..., KeyServer]
PMS = b"\xfe\xfd" + os.urandom(46) + bytes(16)
KEY = Key(Secret(PMS), os.urandom(32), os.urandom(32))
PACKED = PMS + KEY.server_random + KEY.client_random


def ask_over_network(server: KeyServer, psk: Path | PskFile) -> bytes:
    """Ask for the key over the network, although the server runs in this process."""
    return KeyClient(psk, port=server.port).get("127.0.0.1", 1)


def failure(client: KeyClient, kind: type[PskkeyError], address: str = "127.0.0.1") -> str:
    """Return the one sentence of the error when a request for the key fails."""
    with pytest.raises(kind) as caught:
        client.get_key(address)
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "_ssl.c" not in sentence
    return sentence


def test_server_in_this_process_answers_from_memory(serve: Serve, psk_path: Path) -> None:
    lines: list[str] = []
    server = serve(key=KEY, on_event=lines.append)
    client = KeyClient(psk_path, port=server.port)
    assert client.get_key("127.0.0.1") is KEY
    assert lines == []
    assert ask_over_network(server, psk_path) == PACKED
    assert len(lines) == 3
    server.stop()


def test_memory_grants_no_more_than_the_network(serve: Serve, psk_path: Path, tmp_path: Path) -> None:
    server = serve(key=KEY)
    stranger = write_psk(tmp_path / "stranger.psk", "node")
    assert "another key" in failure(KeyClient(stranger, port=server.port), HandshakeError)
    assert "refused" in failure(KeyClient(psk_path, port=server.port), Unreachable, "127.0.0.2")


def test_all_addresses_of_ipv4_and_ipv6_are_served(serve: Serve, psk_path: Path) -> None:
    server = serve(bind=(), key=KEY)
    client = KeyClient(psk_path, port=server.port)
    for address in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        assert client.get(address, 1) == PACKED
        assert client.get_key(address) is KEY


@pytest.mark.parametrize("identity", ["node", "spare"])
def test_both_psks_of_a_rotation_are_accepted(serve: Serve, psk_path: Path, identity: str) -> None:
    server = serve(key=KEY)
    psk = load_psk(psk_path)
    assert ask_over_network(server, psk.only(identity)) == PACKED
    restricted = serve(key=KEY, identity="spare")
    if identity == "node":
        with pytest.raises(HandshakeError):
            ask_over_network(restricted, psk.only(identity))
    else:
        assert ask_over_network(restricted, psk.only(identity)) == PACKED


def test_on_event_gets_the_documented_lines(serve: Serve, psk_path: Path) -> None:
    lines: list[str] = []
    server = serve(on_event=lines.append)
    ask_over_network(server, psk_path)
    assert lines[0].startswith("Connection from 127.0.0.1, port ")
    assert lines[1:] == ["Request: Version 1, Cmd 1, Size 0", "Response: Version 1, Cmd 1, Size 128"]


def test_handlers_answer_requests_of_other_types(serve: Serve, psk_path: Path) -> None:
    def broken(_payload: bytes) -> bytes:
        raise LookupError("no such thing")

    server = serve(handlers={2: lambda payload: payload[::-1], 200: lambda _payload: bytes(65535), 3: broken})
    client = KeyClient(psk_path, port=server.port)
    assert client.get("127.0.0.1", 2, b"abc") == b"cba"
    assert client.get("127.0.0.1", 2, bytes(65535)) == bytes(65535)
    assert client.get("127.0.0.1", 200) == bytes(65535)
    with pytest.raises(PeerError, match="could not answer"):
        client.get("127.0.0.1", 3)
    with pytest.raises(PeerError, match="a packet of type 4 is not allowed here"):
        client.get("127.0.0.1", 4)
    assert len(client.get("127.0.0.1", 1)) == 128
    with pytest.raises(NoAnswer, match="did not answer request type 144 in time"):
        KeyClient(psk_path, port=server.port, timeout=0.5).get("127.0.0.1", 144)
    with pytest.raises(ValueError, match="a handler is for"):
        KeyServer(psk_path, handlers={1: lambda _payload: b""})


@pytest.mark.parametrize("before", [b"", b"\x01\x90\x00\x02hi"], ids=["alone", "after an optional packet"])
@pytest.mark.parametrize("long_form", [False, True])
def test_client_reads_the_key_of_a_server_in_c(psk_path: Path, long_form: bool, before: bytes) -> None:
    answer = b"\0\7" + PACKED + b"\x00\xfe" if long_form else PACKED
    with openssl.psk_server(load_psk(psk_path).active) as (port, server):
        assert server.stdin is not None
        assert server.stdout is not None
        result: list[Key] = []
        asking = threading.Thread(target=lambda: result.append(KeyClient(psk_path, port=port).get_key("127.0.0.1")))
        asking.start()
        assert openssl.read_until(server.stdout.fileno(), 4) == openssl.KEY_REQUEST
        server.stdin.write(before + b"\x01\x01\x00" + bytes([len(answer)]) + answer)
        asking.join(10)
    suite = Suite.WDM_WITH_NULL_SHA256 if long_form else Suite.PSK_CHACHA20_POLY1305
    assert result == [Key(KEY.pms, KEY.server_random, KEY.client_random, suite)]


def test_server_with_our_psk_and_another_protocol_is_refused(psk_path: Path) -> None:
    with openssl.psk_server(load_psk(psk_path).active) as (port, server):
        assert server.stdin is not None
        server.stdin.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert "does not speak our protocol" in failure(KeyClient(psk_path, port=port), BadPacket)


def test_server_with_a_certificate_gets_nothing(psk_path: Path, tmp_path: Path) -> None:
    with openssl.certificate_server(tmp_path) as (port, transcript):
        sentence = failure(KeyClient(psk_path, port=port), HandshakeError)
        refused = wait_for_sign(transcript, "Alert")
        # A client that only skips the verification sends its data to the same server.
        naive = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        naive.check_hostname, naive.verify_mode = False, ssl.CERT_NONE
        with naive.wrap_socket(socket.create_connection(("127.0.0.1", port))) as fooled:
            fooled.sendall(b"the rogue reads this")
            fooled_transcript = wait_for_sign(transcript, "the rogue reads this")
    assert "presented a certificate and does not use our PSK" in sentence
    heard = [line for line in refused.splitlines() if line.startswith("<<<") and ("Handshake" in line or "Al" in line)]
    assert [line.partition("], ")[2] for line in heard] == ["ClientHello", "fatal unknown_ca"]
    assert "Finished" in fooled_transcript.partition("unknown_ca")[2]
    active = load_psk(psk_path).active
    assert active.key.reveal().hex() not in refused.replace(" ", "").replace("\n", "")


def wait_for_sign(transcript: Path, sign: str) -> str:
    """Wait until the transcript contains `sign`, and return the transcript."""
    deadline = time.monotonic() + 10
    while True:
        text = transcript.read_text(errors="replace")
        if sign in text:
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.01)


def test_client_reports_a_wrong_key_and_an_unknown_identity(psk_path: Path, tmp_path: Path) -> None:
    wrong = write_psk(tmp_path / "wrong.psk", "node", "unknown")
    with openssl.psk_server(load_psk(psk_path).active) as (port, _server):
        assert "holds another key" in failure(KeyClient(wrong, port=port), HandshakeError)
        sentence = failure(KeyClient(wrong, identity="unknown", port=port), HandshakeError)
        assert "does not know our PSK identity" in sentence
        assert "'unknown'" in sentence


def test_client_reports_a_server_that_is_not_there(psk_path: Path) -> None:
    port = openssl.free_port()
    assert failure(KeyClient(psk_path, port=port), Unreachable) == (
        f"127.0.0.1, port {port}: it refused the connection: no key server listens there"
    )
    # The kernel has no route for TCP to a multicast address, so that nothing leaves this machine.
    assert "cannot be reached" in failure(KeyClient(psk_path), Unreachable, "224.0.0.1")
    assert "neither an IP address nor a host name" in failure(KeyClient(psk_path), Unreachable, "no.such.invalid")
    assert "connect from" in failure(KeyClient(psk_path, bind="192.0.2.1"), Unreachable)


def test_address_that_drops_packets_is_unreachable_in_time(psk_path: Path) -> None:
    with socket.socket() as full:  # its queue holds one connection, so the next one's packets are dropped
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            begun = time.monotonic()
            sentence = failure(KeyClient(psk_path, port=port, timeout=0.3), Unreachable)
            assert time.monotonic() - begun < 1.5
    assert "does not answer in time" in sentence


def test_silent_server_is_given_up_in_time(psk_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = KeyClient(psk_path, port=silent.getsockname()[1], timeout=0.3)
        assert "sent no TLS within 0.3 s" in failure(client, NoAnswer)
    with openssl.psk_server(load_psk(psk_path).active) as (port, _server):
        client = KeyClient(psk_path, port=port, timeout=2.0)
        assert "did not answer request type 1 in time" in failure(client, NoAnswer)


def test_server_stops_before_run_and_runs_a_second_time(psk_path: Path) -> None:
    server = KeyServer(psk_path, bind="127.0.0.1", port=0)
    server.stop()
    server.run()
    assert not server.is_running
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.wait_until_running(10)
    server.stop()
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_import_causes_no_warning() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", "import pskkey; pskkey.KeyServer"], check=True)


def test_missing_file_descriptor_is_reported_in_one_sentence(serve: Serve, psk_path: Path) -> None:
    server = serve(key=KEY)
    client = KeyClient(psk_path, port=server.port)
    with no_descriptor_left():
        assert "no file descriptor left" in failure(client, Unreachable, "127.0.0.2")
    assert client.get("127.0.0.1", 1) == PACKED
