"""A server that fails to authenticate is reported by the key client, with its address and fault.

The servers are OpenSSL, by the module `ssl` in threads, and a few that answer by hand.
"""

import asyncio
import datetime
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from pskkey.adapters.tls.authentication import FailedAuthentication, Fault, find_server_fault
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.config.psk import Psk, PskFile
from pskkey.core.actions import Connect
from pskkey.core.events import Direction, Disconnected, Session
from pskkey.errors import HandshakeError
from pskkey.secret import Secret
from tests.adapters.tls.ends import NODE, Ends, Side

WRONG = os.urandom(32)


def with_psk(identity: str, key: bytes) -> ssl.SSLContext:
    """Return a key server that knows one identity."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_psk_server_callback(lambda offered: key if offered == identity else b"")
    return context


def with_certificate(directory: Path) -> ssl.SSLContext:
    """Return a server with a certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=2)).sign(key, SHA256())
    )  # fmt: skip
    path = directory / "rogue.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextmanager
def serving(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Let `serve` answer one connection in a thread, when the client has sent something. Yield the port."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            accepted, _ = listener.accept()
            with accepted, suppress(OSError):
                accepted.settimeout(5)
                accepted.recv(1, socket.MSG_PEEK)
                serve(accepted)

        loop.run_in_executor(None, accept)
        yield listener.getsockname()[1]


def speak_tls(context: ssl.SSLContext) -> Callable[[socket.socket], object]:
    """Return a server that does the handshake."""
    return lambda accepted: context.wrap_socket(accepted, server_side=True).close()


def send_alert(code: int) -> Callable[[socket.socket], object]:
    """Return a server that answers with a fatal alert (RFC 8446 section 6), as other TLS libraries do."""

    def serve(accepted: socket.socket) -> None:
        accepted.recv(4096)
        accepted.sendall(bytes((21, 3, 3, 0, 2, 2, code)))

    return serve


def pretend(accepted: socket.socket) -> None:
    """Answer as a server that selects the client's PSK (RFC 8446 section 4.2.11), but does not have the key."""
    hello = accepted.recv(4096)
    session_id = hello[44 : 44 + hello[43]]
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )  # fmt: skip
    share = struct.pack("!HH", 23, len(point)) + point
    extensions = b"".join(
        struct.pack("!HH", kind, len(data)) + data for kind, data in ((43, b"\3\4"), (51, share), (41, b"\0\0"))
    )
    body = b"\3\3" + os.urandom(32) + bytes((len(session_id),)) + session_id + b"\x13\x01\0"
    body += struct.pack("!H", len(extensions)) + extensions
    message = b"\x02" + len(body).to_bytes(3) + body
    accepted.sendall(b"\x16\3\3" + struct.pack("!H", len(message)) + message)
    accepted.sendall(b"\x17\3\3\0\x40" + os.urandom(64))
    accepted.recv(4096)


class Client:
    """The daemon's key client, and what it reports."""

    def __init__(self, ends: Ends, psk: PskFile | None = None) -> None:
        self.reported: list[FailedAuthentication] = []
        self.side = Side()
        self.sessions = OutboundSessions(
            lambda: psk or ends.psk, self.side.events.put_nowait, self.side.counters, report=self.reported.append
        )

    async def meet(self, serve: Callable[[socket.socket], object]) -> Disconnected:
        """Connect to a server, and return the end of the session."""
        session = Session(Direction.OUTBOUND, 1)
        with serving(serve) as port:
            self.sessions.connect(Connect(session, NODE.id, ("127.0.0.1",), port, 5.0))
            ended = await self.side.next(Disconnected)
        await self.sessions.stop()
        return ended


@pytest.mark.parametrize(
    ("serve", "fault"),
    [
        (speak_tls(with_psk("node", WRONG)), Fault.WRONG_KEY),
        (speak_tls(with_psk("foreign", WRONG)), Fault.UNKNOWN_IDENTITY),
        (pretend, Fault.WRONG_KEY),
        (send_alert(20), Fault.WRONG_KEY),
        (send_alert(47), Fault.WRONG_KEY),
        (send_alert(51), Fault.WRONG_KEY),
        (send_alert(40), Fault.UNKNOWN_IDENTITY),
        (send_alert(115), Fault.UNKNOWN_IDENTITY),
        (None, Fault.NO_PSK),
    ],
    ids=["other key", "other identity", "selects the PSK without its key", "bad_record_mac", "illegal_parameter",
         "decrypt_error", "handshake_failure", "unknown_psk_identity", "certificate"],
)  # fmt: skip
async def test_server_that_fails_to_authenticate_is_reported(
    ends: Ends, tmp_path: Path, serve: Callable[[socket.socket], object] | None, fault: Fault
) -> None:
    client = Client(ends)
    ended = await client.meet(serve or speak_tls(with_certificate(tmp_path)))
    assert ended.code == "handshake"
    (failed,) = client.reported
    assert failed.fields == {"address": "127.0.0.1", "identity": "node", "direction": "out", "code": fault}
    assert str(failed).startswith("Connection to 127.0.0.1: it ")
    assert failed.reason in ended.reason
    assert client.side.counters == {"connects_failed": 1, "authentications_failed": 1}


@pytest.mark.parametrize("serve", [lambda _: None, send_alert(70), send_alert(80)], ids=["cut", "version", "internal"])
async def test_server_that_fails_for_another_cause_is_no_failed_authentication(
    ends: Ends, serve: Callable[[socket.socket], object]
) -> None:
    client = Client(ends)
    assert (await client.meet(serve)).code == "handshake"
    assert client.reported == []
    assert client.side.counters == {"connects_failed": 1}


async def test_identity_that_may_be_a_key_is_hidden_in_the_event_of_a_server(ends: Ends) -> None:
    identity = "00112233445566778899aabbccddeeff"
    key = Secret(os.urandom(32))
    client = Client(ends, PskFile(Psk(identity, key), {identity: key}))
    await client.meet(pretend)
    assert client.reported[0].identity == "<hidden>"


def test_server_that_did_not_use_the_psk_after_all_is_a_failed_authentication() -> None:
    assert find_server_fault(HandshakeError("the server did not use the pre-shared key")) is Fault.NO_PSK
