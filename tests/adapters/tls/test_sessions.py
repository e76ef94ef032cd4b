"""The daemon's key server and key client through their public interface: events, actions and deadlines."""

import asyncio
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from pskkey.adapters.host.entropy import random_key
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.config.psk import Psk, PskFile, load_psk
from pskkey.core.actions import Connect
from pskkey.core.events import Accepted, Connected, Direction, Disconnected, OtherNodeAnswered, Received, Session
from pskkey.errors import ConfigError
from pskkey.model import ErrorMessage, Group, Heartbeat, KeyAck, KeyRequest, KeyResponse, Member, Suite
from tests.adapters.tls.ends import JOIN, NODE, Ends
from tests.psk_files import write_psk


async def test_messages_pass_both_ways_and_each_end_is_reported_once(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    mine, its = await ends.session()
    ends.client.send(mine, JOIN)
    ends.client.send(mine, KeyRequest())
    assert await ends.at_server.next(Received) == Received(its, JOIN)
    assert await ends.at_server.next(Received) == Received(its, KeyRequest())
    answer = KeyResponse(random_key(Suite.PSK_CHACHA20_POLY1305))
    ends.server.send(its, answer)
    assert await ends.at_client.next(Received) == Received(mine, answer)

    refusal = ErrorMessage("group", "another group")
    ends.server.disconnect(its, refusal)
    assert await ends.at_client.next(Received) == Received(mine, refusal)
    lost = await ends.at_client.next(Disconnected)
    assert lost.session == mine
    assert "ended: it closed the connection" in lost.reason
    ends.client.send(mine, KeyRequest())
    ends.server.send(its, answer)
    await ends.server.stop()
    assert ends.at_server.events.empty()
    assert ends.at_client.events.empty()
    assert ends.at_server.counters == {"handshakes_ok": 1}


async def test_group_of_any_size_passes(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    mine, its = await ends.session()
    members = tuple(Member(f"{number:032x}", "n" * 60, (f"10.0.{number // 256}.1",), 1) for number in range(4000))
    group = Group(3, members[0].id, members, tuple(member.id for member in members))
    ends.server.send(its, group)
    assert await ends.at_client.next(Received) == Received(mine, group)


async def test_server_can_be_started_again_and_its_stop_ends_sessions(ends: Ends) -> None:
    for _ in range(2):
        await ends.server.start(["127.0.0.1"], 0)
        await ends.session()
        await ends.server.stop()
        assert "key server stops" in (await ends.at_server.next(Disconnected)).reason
        await ends.at_client.next(Disconnected)
        assert ends.server.port is None


async def test_port_in_use_and_foreign_address_are_reported(ends: Ends) -> None:
    await ends.server.start([], 0)
    port = ends.server.port
    assert port is not None
    other = Ends.make_server(ends, ServerLimits())
    with pytest.raises(ConfigError, match=f"port {port} of 0.0.0.0 is in use"):
        await other.start([], port)
    with pytest.raises(ConfigError, match="2001:db8::1 is not an address of this machine"):
        await other.start(["127.0.0.1", "2001:db8::1"], 0)


async def test_sessions_go_on_after_the_key_server_has_left_their_address(ends: Ends) -> None:
    await ends.server.start(["127.0.0.2"], 0)
    port = ends.server.port
    assert port is not None
    listener = ends.server.listen("127.0.0.1", port)
    mine, served = await ends.session()
    ends.server.stop_listening(listener)
    await asyncio.sleep(0)  # the socket is closed at the end of its task
    ends.connect("127.0.0.1", port=port)
    assert "refused" in (await ends.at_client.next(Disconnected)).reason
    ends.client.send(mine, JOIN)
    assert await ends.at_server.next(Received) == Received(served, JOIN)
    ends.connect("127.0.0.2", port=port)
    await ends.at_client.next(Connected)


async def test_first_address_that_answers_is_taken(ends: Ends) -> None:
    await ends.server.start(["127.0.0.3"], 0)
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.2", ends.server.port or 0))
        full.listen(0)
        filler.connect(full.getsockname())  # from here on packets to it are dropped
        mine = ends.connect("127.0.0.1", "127.0.0.2", "127.0.0.3")
        assert (await ends.at_client.next(Connected)).session == mine
        ends.client.disconnect(mine, None)
        ends.connect("127.0.0.1", "127.0.0.2", timeout=1.0)
        assert "127.0.0.1, port" in (await ends.at_client.next(Disconnected)).reason
        ends.connect("127.0.0.2", timeout=0.2)
        assert "no answer within 0.2 s" in (await ends.at_client.next(Disconnected)).reason


async def test_attempt_can_be_cancelled(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        mine = ends.connect(port=silent.getsockname()[1])
        accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
        with accepted:
            assert await asyncio.get_running_loop().sock_recv(accepted, 5) != b""
            ends.client.disconnect(mine, None)
            while await asyncio.get_running_loop().sock_recv(accepted, 4096):
                continue
    assert ends.at_client.events.empty()


async def test_reloaded_psk_counts_from_the_next_connection(ends: Ends, tmp_path: Path) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    await ends.session()
    fresh: PskFile = load_psk(write_psk(tmp_path / "fresh.psk", "node"))
    old = ends.psk
    stale = OutboundSessions(lambda: old, ends.at_client.events.put_nowait, Counter())
    ends.psk = fresh
    await ends.session()
    stale.connect(Connect(Session(Direction.OUTBOUND, 99), NODE.id, ("127.0.0.1",), ends.server.port or 0, 5.0))
    assert "another key" in (await ends.at_client.next(Disconnected)).reason
    assert ends.at_server.counters == {"handshakes_ok": 2, "handshakes_failed": 1, "authentications_failed": 1}
    await stale.stop()


async def test_session_names_the_psk_that_was_active_at_its_request(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    both = ends.psk
    spare = Psk("spare", both.accepted["spare"])
    sessions = []
    for active in (both.active, spare):
        ends.psk = PskFile(active, both.accepted)
        mine = ends.connect()
        ends.psk = PskFile(spare, both.accepted)
        assert await ends.at_client.next(Connected) == Connected(mine, active.name, "127.0.0.1")
        sessions.append((mine, (await ends.at_server.next(Accepted)).session))
    assert both.active.name != spare.name
    # They are two sessions: the end of one does not end the other.
    ends.server.disconnect(sessions[0][1], None)
    assert (await ends.at_client.next(Disconnected)).session == sessions[0][0]
    ends.server.send(sessions[1][1], Heartbeat())
    assert await ends.at_client.next(Received) == Received(sessions[1][0], Heartbeat())


async def test_bad_packet_ends_that_session_only(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    mine, its = await ends.session()
    other, its_other = await ends.session()
    ends.client.send(mine, Group(1, NODE.id, (NODE,), (NODE.id,)))  # only servers send one
    ended = await ends.at_server.next(Disconnected)
    assert ended.session == its
    assert "broke the protocol" in ended.reason
    refusal = ErrorMessage("bad_packet", "a packet of type 17 is not allowed here")
    assert await ends.at_client.next(Received) == Received(mine, refusal)
    assert (await ends.at_client.next(Disconnected)).session == mine
    ends.client.send(other, KeyAck(1))
    assert await ends.at_server.next(Received) == Received(its_other, KeyAck(1))
    ends.server.send(its_other, JOIN)
    assert "broke the protocol" in (await ends.at_client.next(Disconnected)).reason
    assert ends.at_server.counters["bad_packets"] == ends.at_client.counters["bad_packets"] == 1


async def test_silent_session_ends_unless_it_joined(ends: Ends) -> None:
    await ends.make_server(ServerLimits(silence=0.3)).start(["127.0.0.1"], 0)
    member, its_member = await ends.session()
    ends.client.send(member, JOIN)
    await ends.at_server.next(Received)
    _, its_silent = await ends.session()
    ended = await ends.at_server.next(Disconnected)
    assert ended.session == its_silent
    assert "sent nothing for 0.3 s" in ended.reason
    ends.client.send(member, Heartbeat())
    assert await ends.at_server.next(Received) == Received(its_member, Heartbeat())


async def test_connection_of_a_peer_that_does_not_read_is_ended(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    _, its = await ends.session()
    members = tuple(Member(f"{number:032x}", "n" * 60, ("10.0.0.1",), 1) for number in range(1000))
    group = Group(3, members[0].id, members, ())
    for _ in range(100):  # without a turn of the loop, in which the client could read
        ends.server.send(its, group)
    assert "does not read" in (await ends.at_server.next(Disconnected)).reason
    assert ends.at_server.counters["connections_stalled"] == 1


async def test_other_node_at_an_address_is_reported_and_the_next_address_is_tried(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1", "127.0.0.2"], 0)
    meant = InboundSessions(
        "fedcba9876543210", lambda: ends.psk, False, ServerLimits(), ends.at_server.events.put_nowait, Counter()
    )
    port = ends.server.port
    assert port is not None
    await meant.start(["127.0.0.3"], port)
    ends.connect("127.0.0.1", "127.0.0.2", "127.0.0.3", port=port, peer="fedcba9876543210")
    for address in ("127.0.0.1", "127.0.0.2"):
        answered = await ends.at_client.next(OtherNodeAnswered)
        assert answered == OtherNodeAnswered("fedcba9876543210", address)
    assert (await ends.at_client.next(Connected)).address == "127.0.0.3"
    await meant.stop()


async def test_session_fails_when_only_other_nodes_answer(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    ends.connect("127.0.0.1", peer="fedcba9876543210")
    await ends.at_client.next(OtherNodeAnswered)
    failed = await ends.at_client.next(Disconnected)
    assert (failed.code, "another node answers" in failed.reason) == ("wrong_node", True)


async def test_other_node_at_one_address_takes_no_time_from_the_others_and_proves_nothing_for_them(ends: Ends) -> None:
    """A handshake with another node is over, so it does not prolong the attempt. A silent one may be with the peer."""
    await ends.server.start(["127.0.0.1"], 0)
    port = ends.server.port
    assert port is not None
    with socket.create_server(("127.0.0.2", port), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):  # the kernel drops the SYN of further connections
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        ends.connect("127.0.0.1", "127.0.0.2", port=port, peer="fedcba9876543210", timeout=1.0, patience=600.0)
        await ends.at_client.next(OtherNodeAnswered)
        assert (await ends.at_client.next(Disconnected)).code == "wrong_node"
    with socket.create_server(("127.0.0.2", port)):
        ends.connect("127.0.0.1", "127.0.0.2", port=port, peer="fedcba9876543210", timeout=1.0)
        await ends.at_client.next(OtherNodeAnswered)
        assert (await ends.at_client.next(Disconnected)).code == "no_handshake"


async def test_code_of_a_failed_session_names_the_cause(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ends.connect("127.0.0.1", port=port, timeout=0.2)
        ended = await ends.at_client.next(Disconnected)
        assert (ended.code, "though TCP opened at 127.0.0.1" in ended.reason) == ("no_handshake", True)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        port = full.getsockname()[1]
        for _ in range(4):  # the kernel drops the SYN of further connections
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        ends.connect("127.0.0.1", port=port, timeout=0.2)
        assert (await ends.at_client.next(Disconnected)).code == "timeout"
    ends.connect("127.0.0.1", port=port)
    assert (await ends.at_client.next(Disconnected)).code == "refused"
