"""A server that floods a key client, or makes work for it, takes little of its time and memory."""

import asyncio
import os
import re
import socket
import ssl
import struct
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pskkey.adapters.tls.authentication import Fault
from pskkey.adapters.tls.connection import TlsConnection
from pskkey.adapters.tls.contexts import CURVE, client_context, node_protocol
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.adapters.tls.tls_session import BUFFER_SIZE, TlsSession
from pskkey.core.actions import PATIENCE_FOR_HANDSHAKE, Connect
from pskkey.core.events import Connected, Direction, Disconnected, Event, Received, Session
from pskkey.model import Group, Heartbeat, Member
from pskkey.wire.packet import encode
from tests.adapters.tls.ends import NODE, Ends
from tests.adapters.tls.test_authentication_of_servers import Client, serving, with_certificate

MEMBERS = tuple(Member(f"{number:016x}", f"n{number}", ("10.0.0.1",), 1) for number in range(14))
GROUP = Group(1, MEMBERS[0].id, MEMBERS, ())
HEARTBEATS = encode(Heartbeat()) * 300
APPLICATION_DATA = 23


def insider(ends: Ends) -> ssl.SSLContext:
    """Return a server that has the PSK, and passes for NODE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ecdh_curve(CURVE)
    context.num_tickets = 0
    context.set_alpn_protocols([node_protocol(NODE.id)])
    context.set_psk_server_callback(lambda _: ends.psk.active.key.reveal())
    return context


def answer_of(context: ssl.SSLContext, hello: bytes) -> bytes:
    """Return the first flight of a server."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(hello)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def first_record(flight: bytes) -> bytes:
    return flight[: 5 + int.from_bytes(flight[3:5])]


# --- before the handshake is done: strangers --------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", struct.pack("!BHH", APPLICATION_DATA, 0x0303, 64) + bytes(64)], ids=repr)
async def test_certificates_of_a_server_without_the_psk_are_not_read(ends: Ends, tmp_path: Path, rest: bytes) -> None:
    """OpenSSL needed 0.1 s for the key of each certificate, of 600 bytes. The bytes of `rest` come in their place."""
    context = with_certificate(tmp_path)

    def serve(accepted: socket.socket) -> None:
        accepted.sendall(first_record(answer_of(context, accepted.recv(4096))) + rest)
        accepted.recv(1)

    client = Client(ends)
    ended = await client.meet(serve)
    assert "it does not use our PSK" in ended.reason
    assert [failed.fault for failed in client.reported] == [Fault.NO_PSK]


async def test_first_record_that_is_too_long_for_a_key_server_ends_the_attempt(ends: Ends) -> None:
    def serve(accepted: socket.socket) -> None:
        accepted.sendall(struct.pack("!BHH", 22, 0x0303, 16000) + bytes(10))
        accepted.recv(1)

    assert "it does not use our PSK" in (await Client(ends).meet(serve)).reason


async def test_server_that_does_not_speak_tls_is_named_so(ends: Ends) -> None:
    def serve(accepted: socket.socket) -> None:
        accepted.recv(4096)
        accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        accepted.recv(1)

    client = Client(ends)
    assert "it does not speak TLS" in (await client.meet(serve)).reason
    assert client.reported == []


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (4,), (5,), (6,), (170,)], ids=str)
async def test_answer_of_a_key_server_may_come_in_pieces(ends: Ends, sizes: tuple[int, ...]) -> None:
    def serve(accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flight = answer_of(insider(ends), accepted.recv(4096))
        for size in sizes:
            accepted.sendall(flight[:size])
            flight = flight[size:]
            time.sleep(0.02)
        accepted.sendall(flight)
        assert accepted.recv(4096), "the client's Finished"

    with serving(serve) as port:
        ends.connect(port=port)
        await ends.at_client.next(Connected)
        await ends.client.stop()


async def test_several_addresses_that_stay_silent_have_one_patience_together(ends: Ends) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = silent.getsockname()[1]
        for host in (2, 3):
            stack.enter_context(socket.create_server((f"127.0.0.{host}", port)))
        ends.connect(
            "127.0.0.1", "127.0.0.2", "127.0.0.3", port=port, timeout=0.1, patience=PATIENCE_FOR_HANDSHAKE + 0.5
        )
        ended = await ends.at_client.next(Disconnected)
    found = re.search(r"no answer within ([0-9.]+) s, though TCP opened at 127.0.0.1, 127.0.0.2$", ended.reason)
    assert found is not None, ended.reason
    assert float(found[1]) <= PATIENCE_FOR_HANDSHAKE + 0.7


# --- after it: insiders -----------------------------------------------------------------------------------------------


class Plain:
    """A handshake with nothing to check. `incoming` are the bytes of the peer that wait in the session."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool = False) -> None:
        self.incoming = ssl.MemoryBIO()
        self._context = context
        self._server_side = server_side

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        self.incoming = incoming
        return self._context.wrap_bio(incoming, outgoing, server_side=self._server_side)

    def split(self, data: memoryview) -> tuple[memoryview]:
        return (data,)

    def go_on(self, tls: ssl.SSLObject) -> None:
        tls.do_handshake()


class SlowOwner:
    """Takes one record, and the next one `pause` seconds later, as `paced_input` may. `waiting`: the most bytes that
    ever waited.
    """

    def __init__(self, handshake: Plain, pause: float) -> None:
        self._pause = pause
        self.waiting = self.records = 0
        self.lost_at_last = asyncio.Event()
        self._handshake = handshake

    def opened(self, connection: TlsConnection) -> None:
        pass

    def received(self, connection: TlsConnection, data: bytes) -> None:
        assert data
        self.records += 1
        self.waiting = max(self.waiting, self._handshake.incoming.pending)
        connection.pause_reading()
        asyncio.get_running_loop().call_later(self._pause, connection.resume_reading)

    def failed(self, connection: TlsConnection, error: Exception) -> None:  # noqa: ARG002
        raise error

    def lost(self, connection: TlsConnection, reason: str) -> None:  # noqa: ARG002
        self.lost_at_last.set()


@pytest.mark.parametrize("pause", [0.0, 0.001])
async def test_flood_of_small_messages_waits_in_the_kernel(ends: Ends, pause: float) -> None:
    """A pause took in another 8 KiB for each message, without bound."""

    def serve(accepted: socket.socket) -> None:
        with insider(ends).wrap_socket(accepted, server_side=True) as session:
            for _ in range(10_000):
                session.sendall(HEARTBEATS[:160])

    handshake = Plain(client_context(ends.psk.active, [NODE.id]))
    owner = SlowOwner(handshake, pause)
    with serving(serve) as port:
        connection = TlsConnection(owner, "127.0.0.1", port)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: connection, "127.0.0.1", port)
        connection.shake_hands(transport, handshake)
        await asyncio.sleep(0.5)
        connection.abort("the test is over")
        await asyncio.wait_for(owner.lost_at_last.wait(), 5)
    assert owner.records >= 100
    assert owner.waiting < 2 * BUFFER_SIZE


def padded_records(session: ssl.SSLSocket, keys: Path, count: int) -> bytes:
    """Return the first `count` records of a server's session, each with a HEARTBEAT and 16,000 bytes of padding.

    See RFC 8446 sections 5.2 to 5.4 and 7.3. `keys` is the key log of the session.
    """
    log = dict(line.split(" ", 1) for line in keys.read_text().splitlines() if line.startswith("SERVER_TRAFFIC"))
    secret = bytes.fromhex(log["SERVER_TRAFFIC_SECRET_0"].split()[1])
    suite = (session.cipher() or ("",))[0]
    make, size = (AESGCM, 16) if suite == "TLS_AES_128_GCM_SHA256" else (ChaCha20Poly1305, 32)
    key, iv = (
        HKDFExpand(SHA256(), length, struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0").derive(
            secret
        )
        for label, length in ((b"key", size), (b"iv", 12))
    )
    plain = encode(Heartbeat()) + bytes((APPLICATION_DATA,)) + bytes(16000)
    header = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(plain) + 16)
    nonces = ((int.from_bytes(iv) ^ number).to_bytes(12) for number in range(count))
    return b"".join(header + make(key).encrypt(nonce, plain, header) for nonce in nonces)


@pytest.mark.parametrize(("records", "ends_it"), [(4, False), (5, True)])
async def test_flood_of_bytes_without_data_ends_the_session(
    ends: Ends, tmp_path: Path, records: int, ends_it: bool
) -> None:
    context = insider(ends)
    context.keylog_filename = str(tmp_path / "keys")

    def serve(accepted: socket.socket) -> None:
        with context.wrap_socket(accepted, server_side=True) as session:
            os.write(session.fileno(), padded_records(session, tmp_path / "keys", records))
            session.recv(1)

    with serving(serve) as port:
        session = ends.connect(port=port)
        await ends.at_client.next(Connected)
        for _ in range(4):
            await ends.at_client.next(Received)
        if not ends_it:
            await ends.client.stop()
            return
        while isinstance(ended := await ends.at_client.events.get(), Received):
            pass
    assert isinstance(ended, Disconnected)
    assert ended.session == session
    assert ended.reason.endswith("it sends TLS messages without data")
    assert ends.at_client.counters == {"connects_ok": 1, "bad_packets": 1}


async def test_honest_backlog_is_no_flood(ends: Ends) -> None:
    """Each record has two messages, so that the input pauses within it."""
    records = 100

    def serve(accepted: socket.socket) -> None:
        with insider(ends).wrap_socket(accepted, server_side=True) as session:
            for _ in range(records):
                session.sendall(encode(GROUP) + encode(Heartbeat()))
            session.recv(1)

    received = 0
    all_received = asyncio.Event()

    def emit(event: Event) -> None:
        nonlocal received
        if isinstance(event, Connected):
            time.sleep(0.3)  # the event loop is away while the records arrive
        received += isinstance(event, Received)
        if received == 2 * records:
            all_received.set()

    client = OutboundSessions(lambda: ends.psk, emit, ends.at_client.counters)
    with serving(serve) as port:
        client.connect(Connect(Session(Direction.OUTBOUND, 1), NODE.id, ("127.0.0.1",), port, 5.0))
        await asyncio.wait_for(all_received.wait(), 5.0)
        await client.stop()
    assert ends.at_client.counters == {"connects_ok": 1}


def resident() -> int:
    """Return the memory of this process, in MiB."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


async def test_bytes_for_a_session_that_was_closed_with_bytes_unread_are_dropped(ends: Ends) -> None:
    """OpenSSL reads nothing more from such a session, and its buffer took all that came in CLOSE_TIMEOUT."""
    client = TlsSession(Plain(client_context(ends.psk.active, [NODE.id])))
    server = TlsSession(Plain(insider(ends), server_side=True))
    for side, other in ((client, server), (server, client), (client, server)):
        with suppress(ssl.SSLWantReadError):
            side.tls.do_handshake()
        other.feed(side.take_unsent())
    server.tls.do_handshake()
    sealed = server.seal(bytes(BUFFER_SIZE - 100))
    client.feed(sealed)
    client.close()
    before = resident()
    for _ in range(8192):
        assert not client.is_closed_after(sealed)
    assert resident() - before < 8
