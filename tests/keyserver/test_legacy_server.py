"""Our client with `legacy_server`, and servers of TLS 1.2: `openssl s_server`, our own, rogues, and a changed offer."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pskkey import HandshakeError, KeyClient, KeyServer, NoAnswer
from pskkey.adapters.tls.contexts import legacy_server_context, require_psk
from pskkey.config.psk import load_psk
from tests.keyserver import openssl
from tests.psk_files import write_psk

type Serve = Callable[..., KeyServer]
PAYLOAD = b"\xfe\xfd" + os.urandom(46) + bytes(16) + os.urandom(64)
ANSWER = b"\x01\x01\x00\x80" + PAYLOAD
ECDHE_PSK_CHACHA20_POLY1305 = b"\xcc\xac"
PSK_AES128_CBC_SHA256 = b"\x00\xae"
PSK_NULL_SHA256 = b"\x00\xb0"
ECDHE_RSA_AES128_GCM_SHA256 = b"\xc0\x2f"


def ask(psk_path: Path, port: int, legacy_server: bool = True, timeout: float = 5.0) -> bytes:
    """Return the answer of the server on a port of 127.0.0.1 to a request for the key."""
    return KeyClient(psk_path, port=port, legacy_server=legacy_server, timeout=timeout).get("127.0.0.1", 1)


def refusal(psk_path: Path, port: int, legacy_server: bool = True) -> str:
    """Return the sentence of the HandshakeError when a request for the key fails."""
    with pytest.raises(HandshakeError) as caught:
        ask(psk_path, port, legacy_server)
    assert "_ssl.c" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tls", [openssl.LEGACY_CBC, openssl.LEGACY_GCM, openssl.ECDHE_PSK], ids=" ".join)
@pytest.mark.parametrize("hint", [(), ("-psk_hint", "a key server")], ids=["no hint", "hint"])
def test_client_takes_the_key_of_an_older_server_only_with_legacy_server(
    psk_path: Path, tls: Sequence[str], hint: Sequence[str]
) -> None:
    with openssl.psk_server(load_psk(psk_path).active, *tls, *hint) as (port, server):
        sentence = refusal(psk_path, port, legacy_server=False)
        assert "it does not speak TLS 1.3" in sentence
        assert sentence.endswith("an older C key server needs --legacy-server (in Python: legacy_server=True)")
        assert server.stdin is not None
        server.stdin.write(ANSWER)
        assert ask(psk_path, port) == PAYLOAD


def test_server_of_tls_1_3_gives_no_key_with_legacy_server(psk_path: Path) -> None:
    with openssl.psk_server(load_psk(psk_path).active) as (port, _server):
        assert "it does not speak TLS 1.2, so it needs no --legacy-server" in refusal(psk_path, port)


def test_server_without_our_psk_gets_no_request(psk_path: Path, tmp_path: Path) -> None:
    stranger = load_psk(write_psk(tmp_path / "stranger.psk", "node")).active
    with openssl.psk_server(stranger, *openssl.LEGACY_CBC) as (port, _server):
        assert "it holds another key for our PSK identity (wrong PSK)" in refusal(psk_path, port)


def test_our_server_gives_a_key_with_forward_secrecy_to_a_legacy_client(
    serve: Serve, psk_path: Path, tmp_path: Path
) -> None:
    server = serve()  # without `legacy_clients` its only suite of TLS 1.2 has forward secrecy
    assert len(ask(psk_path, server.port)) == 128
    assert "knows another key" in refusal(write_psk(tmp_path / "wrong.psk", "node"), server.port)
    assert "does not have this identity" in refusal(write_psk(tmp_path / "unknown.psk", "nobody"), server.port)


@pytest.mark.parametrize(
    "suite",
    [
        "PSK-NULL-SHA256:@SECLEVEL=0",
        "PSK-AES128-CBC-SHA",
        "DHE-PSK-AES128-GCM-SHA256",
        "RSA-PSK-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ],
)
def test_server_with_our_psk_and_another_suite_gets_no_request(psk_path: Path, tmp_path: Path, suite: str) -> None:
    certificate = str(openssl.make_certificate(tmp_path / "server.pem"))
    tls = ("-tls1_2", "-cipher", suite, "-cert", certificate, "-key", certificate)
    with openssl.psk_server(load_psk(psk_path).active, *tls) as (port, _server):
        assert "has no cipher suite with a PSK that we offer" in refusal(psk_path, port)


def test_server_with_a_certificate_gets_nothing_from_a_legacy_client(psk_path: Path, tmp_path: Path) -> None:
    with openssl.certificate_server(tmp_path, "-tls1_2") as (port, transcript):
        assert "it is no key server of ours" in refusal(psk_path, port)
        # A client that only skips the verification accepts the same server, and the second check refuses the session.
        with naive_context().wrap_socket(socket.create_connection(("127.0.0.1", port))) as fooled:
            with pytest.raises(HandshakeError, match="did not use the pre-shared key"):
                require_psk(fooled, legacy_server=True)
            fooled_suite = fooled.cipher()
    assert fooled_suite is not None
    assert fooled_suite[0].startswith("ECDHE-RSA-")
    assert "ApplicationData" not in transcript.read_text(errors="replace").partition("handshake_failure")[0]


@pytest.mark.parametrize("suite", [PSK_NULL_SHA256, ECDHE_RSA_AES128_GCM_SHA256], ids=["no encryption", "certificate"])
def test_rogue_that_chooses_a_suite_which_we_did_not_offer_gets_nothing(psk_path: Path, suite: bytes) -> None:
    body = b"\x03\x03" + os.urandom(32) + b"\x00" + suite + b"\x00"
    hello = b"\x02" + len(body).to_bytes(3) + body
    received: list[bytes] = []

    def serve_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            received.append(read_record(stream.read))
            connection.sendall(b"\x16\x03\x03" + len(hello).to_bytes(2) + hello)
            received.append(stream.read())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        rogue = threading.Thread(target=serve_one, args=(listener,))
        rogue.start()
        assert "TLS failed: wrong cipher returned" in refusal(psk_path, listener.getsockname()[1])
        rogue.join(10)
    client_hello, rest = received
    assert suite not in offered_suites(client_hello)
    assert rest == b"\x15\x03\x03\x00\x02\x02\x2f"  # the alert illegal_parameter, and no other byte


def test_server_without_the_extension_against_spliced_sessions_is_accepted(psk_path: Path) -> None:
    """wolfSSL before 5.2 does not send it. See `legacy_server_context`."""
    incoming = ssl.MemoryBIO()
    session = legacy_server_context(load_psk(psk_path).active).wrap_bio(incoming, ssl.MemoryBIO())
    body = b"\x03\x03" + os.urandom(32) + b"\x00" + PSK_AES128_CBC_SHA256 + b"\x00"
    hello = b"\x02" + len(body).to_bytes(3) + body
    incoming.write(b"\x16\x03\x03" + len(hello).to_bytes(2) + hello)
    with pytest.raises(ssl.SSLWantReadError):  # it waits for the rest of the server's messages
        session.do_handshake()


def test_attacker_on_the_way_cannot_choose_a_weaker_suite(serve: Serve, psk_path: Path) -> None:
    server = serve(legacy_clients=True)
    with changed_offers(server.port, ECDHE_PSK_CHACHA20_POLY1305, ECDHE_PSK_CHACHA20_POLY1305) as port:
        assert len(ask(psk_path, port)) == 128  # an attacker that only reads
    with changed_offers(server.port, ECDHE_PSK_CHACHA20_POLY1305, PSK_NULL_SHA256) as port:
        refusal(psk_path, port)


def test_second_check_knows_which_sessions_used_the_psk(psk_path: Path) -> None:
    psk = load_psk(psk_path).active
    null = naive_context()
    null.set_ciphers("PSK-NULL-SHA256:@SECLEVEL=0")
    null.set_psk_client_callback(lambda _hint: (psk.identity, psk.key.reveal()))
    for context, cipher, is_accepted in (
        (legacy_server_context(psk), openssl.LEGACY_CBC, True),
        (null, ("-tls1_2", "-cipher", "PSK-NULL-SHA256:@SECLEVEL=0"), False),
    ):
        with (
            openssl.psk_server(psk, *cipher) as (port, _server),
            context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as session,
        ):
            if is_accepted:
                require_psk(session, legacy_server=True)
            else:
                with pytest.raises(HandshakeError):
                    require_psk(session, legacy_server=True)
            with pytest.raises(HandshakeError):
                require_psk(session)


def test_server_that_asks_for_a_second_handshake_gets_none(psk_path: Path) -> None:
    psk = load_psk(psk_path).active
    with openssl.psk_server(psk, *openssl.LEGACY_CBC, takes_commands=True) as (port, server):
        assert server.stdin is not None
        assert server.stdout is not None
        failures: list[str] = []

        def fail() -> None:
            with pytest.raises(NoAnswer) as caught:
                ask(psk_path, port)
            failures.append(str(caught.value))

        asking = threading.Thread(target=fail)
        asking.start()
        printed = b""
        while openssl.KEY_REQUEST not in printed:
            printed += openssl.read_until(server.stdout.fileno(), 1)
        server.stdin.write(b"r\n")
        while b"no renegotiation" not in printed:
            printed += openssl.read_until(server.stdout.fileno(), 1)
        asking.join(10)
    assert failures == [f"127.0.0.1, port {port}: the connection broke before request type 1 was answered"]


def test_identity_hint_that_is_no_text_is_reported_in_one_sentence(
    psk_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hint = ("-psk_hint", os.fsdecode(b"\xff\xfe"))
    with openssl.psk_server(load_psk(psk_path).active, *openssl.LEGACY_CBC, *hint) as (port, _server):
        assert "it sent a PSK identity hint that is not UTF-8" in refusal(psk_path, port)
    assert capfd.readouterr().err == ""


def test_silent_older_server_is_given_up_in_time(psk_path: Path) -> None:
    with (
        openssl.psk_server(load_psk(psk_path).active, *openssl.LEGACY_CBC) as (port, _server),
        pytest.raises(NoAnswer, match="did not answer request type 1 in time"),
    ):
        ask(psk_path, port, timeout=2.0)


def naive_context() -> ssl.SSLContext:
    """Return a context that accepts any server of TLS 1.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def read_record(read: Callable[[int], bytes]) -> bytes:
    """Read one record of TLS."""
    head = read(5)
    return head + read(struct.unpack("!3xH", head)[0])


def offered_suites(client_hello: bytes) -> list[bytes]:
    """Return the suites in a record with a ClientHello (RFC 5246 section 7.4.1.2) without a session to resume."""
    size_at = 5 + 4 + 2 + 32 + 1  # heads of record and message, version, random, size of the session id
    assert client_hello[size_at - 1] == 0
    end = size_at + 2 + int.from_bytes(client_hello[size_at : size_at + 2])
    return [client_hello[at : at + 2] for at in range(size_at + 2, end, 2)]


@contextmanager
def changed_offers(server: int, suite: bytes, replacement: bytes) -> Iterator[int]:
    """Run an attacker between one client and a server: in the client's offer it replaces a suite. Yields its port."""

    def forward(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # an end that refuses the handshake closes its connection
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def attack(listener: socket.socket) -> None:
        with listener.accept()[0] as client, socket.create_connection(("127.0.0.1", server)) as behind:
            offer = read_record(lambda size: client.recv(size, socket.MSG_WAITALL))
            suites = offered_suites(offer)
            assert suite in suites
            changed = b"".join(replacement if each == suite else each for each in suites)
            behind.sendall(offer.replace(b"".join(suites), changed))
            back = threading.Thread(target=forward, args=(behind, client))
            back.start()
            forward(client, behind)
            back.join(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        attacker = threading.Thread(target=attack, args=(listener,))
        attacker.start()
        yield int(listener.getsockname()[1])
        attacker.join(10)
        assert not attacker.is_alive()
