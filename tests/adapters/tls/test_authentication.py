"""A peer that fails to authenticate is reported, with its address, its identity and its fault. No other failure is.

The peers are OpenSSL, by the module `ssl` in threads: they send alerts, which servers of asyncio do not.
"""

import asyncio
import datetime
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pskkey.adapters.tls.authentication import FailedAuthentication, Fault, show_identity
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.config.psk import MAX_IDENTITY_SIZE
from pskkey.core.actions import Connect
from pskkey.core.events import Accepted, Direction, Disconnected, Session
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
def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    """Serve one connection in a thread: do the handshake, or close at once without a context. Yield the port."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(5)
                accepted.recv(1, socket.MSG_PEEK)
                if context is not None:
                    with suppress(OSError):
                        context.wrap_socket(accepted, server_side=True).close()

        loop.run_in_executor(None, serve)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("kind", ["certificate", "other key", "other identity", "cut"])
async def test_server_that_fails_to_authenticate_is_reported(ends: Ends, tmp_path: Path, kind: str) -> None:
    contexts = {
        "certificate": with_certificate(tmp_path),
        "other key": with_psk("node", WRONG),
        "other identity": with_psk("foreign", WRONG),
        "cut": None,
    }
    faults = {"certificate": Fault.NO_PSK, "other key": Fault.WRONG_KEY, "other identity": Fault.UNKNOWN_IDENTITY}
    reported: list[FailedAuthentication] = []
    side = Side()
    client = OutboundSessions(lambda: ends.psk, side.events.put_nowait, side.counters, report=reported.append)
    session = Session(Direction.OUTBOUND, 1)
    with serving(contexts[kind]) as port:
        client.connect(Connect(session, NODE.id, ("127.0.0.1",), port, 5.0))
        ended = await side.next(Disconnected)
    assert ended.code == "handshake"
    if kind == "cut":  # the server may just have ended
        assert reported == []
        assert side.counters == {"connects_failed": 1}
    else:
        (failed,) = reported
        assert failed.fields == {
            "address": "127.0.0.1", "identity": "node", "direction": "out", "code": faults[kind]
        }  # fmt: skip
        assert str(failed).startswith("Connection to 127.0.0.1: it ")
        assert failed.reason in ended.reason
        assert side.counters == {"connects_failed": 1, "authentications_failed": 1}
    await client.stop()
