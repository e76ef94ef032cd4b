"""A client that fails to authenticate is reported by the key server, with its address, identity and fault.

No other failure is. The clients are OpenSSL, by the module `ssl` in threads.
"""

import asyncio
import os
import socket
import ssl
import time

import pytest

from pskkey.adapters.tls.authentication import FailedAuthentication, Fault, show_identity
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.config.psk import MAX_IDENTITY_SIZE
from pskkey.core.events import Accepted
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
