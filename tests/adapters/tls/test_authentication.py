"""A peer that fails to authenticate is reported, with its address, its identity and its fault. No other failure is.

The peers are OpenSSL, by the module `ssl` in threads: they send alerts, which servers of asyncio do not.
"""

import asyncio
import datetime
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from pskkey.adapters.tls.authentication import FailedAuthentication, Fault, find_server_fault, show_identity
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.config.psk import MAX_IDENTITY_SIZE, Psk, PskFile
from pskkey.core.actions import Connect
from pskkey.core.events import Accepted, Direction, Disconnected, Session
from pskkey.errors import HandshakeError
from pskkey.secret import Secret
from tests.adapters.tls.ends import NODE, Ends, Side

WRONG = os.urandom(32)
TLS_1_3 = ""
ECDHE, LEGACY = "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-CBC-SHA256"
"""Cipher suites of TLS 1.2."""


class Server:
    """The daemon's key server, with older clients, and what it reports."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.reported: asyncio.Queue[FailedAuthentication] = asyncio.Queue()
        self.side = Side()
        self.sessions = InboundSessions(
            NODE.id, lambda: ends.psk, True, ServerLimits(handshake_timeout=0.5), self.side.events.put_nowait,
            self.side.counters, report=self.reported.put_nowait,
        )  # fmt: skip
        ends.server = self.sessions

    async def meet(self, context: ssl.SSLContext | None, first: bytes = b"") -> None:
        """Connect, send `first`, do the handshake of `context` if there is one, and wait for the end."""
        port = self.sessions.port

        def connect() -> None:
            with socket.create_connection(("127.0.0.1", port or 0), timeout=5) as plain:
                plain.sendall(first)
                try:
                    if context is not None:
                        with context.wrap_socket(plain) as tls:
                            tls.recv(1)
                    else:
                        plain.shutdown(socket.SHUT_WR)
                        plain.recv(100)
                except OSError:
                    pass

        await asyncio.to_thread(connect)

    async def report(self) -> FailedAuthentication:
        return await asyncio.wait_for(self.reported.get(), 5)


@pytest.fixture
async def server(ends: Ends) -> Server:
    made = Server(ends)
    await made.sessions.start(["127.0.0.1"], 0)
    return made


def client_with(identity: str, key: bytes, suite: str = TLS_1_3) -> ssl.SSLContext:
    """Return a client of TLS 1.3, or of TLS 1.2 with a cipher suite."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if suite:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_psk_client_callback(lambda _: (identity, key))
    return context


def without_psk(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


async def meet_genuinely(server: Server) -> asyncio.Task[None]:
    """Connect with an accepted PSK, and return when the session is open. The connection lasts as long as the task."""
    meeting = asyncio.create_task(server.meet(client_with("spare", server.ends.psk.accepted["spare"].reveal())))
    assert (await server.side.next(Accepted)).identity == "spare"
    return meeting


@pytest.mark.parametrize("suite", [TLS_1_3, ECDHE, LEGACY])
@pytest.mark.parametrize(
    ("identity", "fault", "reason"),
    [
        ("node", Fault.WRONG_KEY, "its key for this identity is not ours"),
        ("spare", Fault.WRONG_KEY, "its key for this identity is not ours"),
        ("foreign", Fault.UNKNOWN_IDENTITY, "it offered the PSK identity 'foreign', which our PSK file does not have"),
    ],
)
async def test_client_with_a_wrong_key_or_an_unknown_identity_is_reported(
    server: Server, suite: str, identity: str, fault: Fault, reason: str
) -> None:
    await server.meet(client_with(identity, WRONG, suite))
    failed = await server.report()
    assert failed.fields == {"address": "127.0.0.1", "identity": identity, "direction": "in", "code": fault}
    assert str(failed).startswith(f"Connection from 127.0.0.1: {reason}")
    assert server.reported.empty()
    assert server.side.counters == {"handshakes_failed": 1, "authentications_failed": 1}
    assert server.side.events.empty()


@pytest.mark.parametrize("suite", [TLS_1_3, ECDHE])
async def test_an_invented_identity_forges_nothing(server: Server, suite: str) -> None:
    await server.meet(client_with("a\nMESSAGE_ID=\x1b[2J\u202e" + "\u00e9" * 50, WRONG, suite))
    failed = await server.report()
    assert failed.identity is not None
    assert failed.identity.isprintable()
    assert failed.identity.startswith(r"a\nMESSAGE_ID=\x1b[2J\u202e")
    assert len(failed.identity.encode()) <= MAX_IDENTITY_SIZE
    assert str(failed).isprintable()


@pytest.mark.parametrize("suite", [ECDHE, LEGACY])
async def test_client_of_tls_1_2_without_an_identity_is_reported_without_one(server: Server, suite: str) -> None:
    await server.meet(client_with("", WRONG, suite))
    failed = await server.report()
    assert (failed.fault, failed.identity) == (Fault.UNKNOWN_IDENTITY, None)


@pytest.mark.parametrize(
    ("context", "first"),
    [
        (None, b""),
        (None, b"GET / HTTP/1.0\r\n\r\n"),
        (None, os.urandom(100)),
        (None, b"\x16\x03\x01\x02\x00\x01"),
        (without_psk(ssl.TLSVersion.TLSv1_2), b""),
        (without_psk(ssl.TLSVersion.TLSv1_3), b""),
        (client_with("foreign", WRONG, "PSK-CHACHA20-POLY1305"), b""),
    ],
    ids=["nothing", "http", "rubbish", "a part", "no PSK in 1.2", "no PSK in 1.3", "another cipher suite"],
)
async def test_other_failures_are_no_failed_authentications(
    server: Server, context: ssl.SSLContext | None, first: bytes
) -> None:
    await server.meet(context, first)
    meeting = await meet_genuinely(server)
    assert server.reported.empty()
    assert server.side.counters == {"handshakes_failed": 1, "handshakes_ok": 1}
    await server.sessions.stop()
    await meeting


async def test_genuine_client_has_its_identity_in_its_event(server: Server) -> None:
    meeting = await meet_genuinely(server)
    await server.sessions.stop()
    await meeting
    assert server.reported.empty()


@pytest.mark.parametrize(
    ("identity", "shown"),
    [
        ("node", "node"),
        ("Pumpe 7 \u00fc", "Pumpe 7 \u00fc"),
        ("a\\x1b\x1b", r"a\\x1b\x1b"),
        ("00112233445566778899aabbccddeeff", "<hidden>"),
        ("x y" * 60, ("x y" * 60)[:125] + "..."),
        ("\u20ac" * 100, "\u20ac" * 41 + "..."),
    ],
)
def test_an_identity_is_shown_printable_short_and_without_a_key(identity: str, shown: str) -> None:
    assert show_identity(identity) == shown


# --- servers ----------------------------------------------------------------------------------------------------------


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


# --- a failure at the moment at which the handshake ends anyway -------------------------------------------------------


@pytest.mark.parametrize("ends_by", ["a newer handshake", "its timeout"])
async def test_wrong_key_is_reported_also_if_the_handshake_is_ended_in_the_same_turn(ends: Ends, ends_by: str) -> None:
    """Else a stranger could try keys without an event, and see by the answer whether one is right."""
    limits = {"a newer handshake": ServerLimits(handshakes=1), "its timeout": ServerLimits(handshake_timeout=0.1)}
    reported: list[FailedAuthentication] = []
    side = Side()
    server = InboundSessions(
        NODE.id, lambda: ends.psk, False, limits[ends_by], side.events.put_nowait, side.counters, report=reported.append
    )
    await server.start(["127.0.0.1"], 0)
    loop = asyncio.get_running_loop()
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_with("node", WRONG).wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    hello = out.read()
    tried = 30
    for _ in range(tried):
        with socket.create_connection(("127.0.0.1", server.port or 0)) as guess:
            guess.sendall(hello[:-1])
            await asyncio.sleep(0.03)  # until the handshake has begun
            if ends_by == "its timeout":
                # The event loop is away until the time is over. Then it finds both.
                loop.call_soon(time.sleep, 0.09)
                loop.call_soon(guess.sendall, hello[-1:])
                await asyncio.sleep(0.01)
            else:
                with socket.create_connection(("127.0.0.1", server.port or 0)):
                    guess.sendall(hello[-1:])
                    await asyncio.sleep(0.01)
    await server.stop()
    assert {failed.fault for failed in reported} == {Fault.WRONG_KEY}
    assert len(reported) == tried == side.counters["authentications_failed"]
