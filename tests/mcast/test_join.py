"""`mcast.join`: key socket, session and multicast socket together."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pskkey.errors import ConfigError
from pskkey.mcast import CannotSend, GroupLeft, JoinedGroup, Message, join
from pskkey.mcast.join import WAITING_MESSAGES
from pskkey.model import KeyEntry, KeyNew, KeyNewReason
from pskkey.rtnetlink.changes import SETTLE
from tests.mcast.key_daemon import key_daemon
from tests.mcast.namespace import delete_interface, make_interface, multicast_namespace
from tests.mcast.vectors import group_key, key_state

GROUP = "239.255.77.5"


def entry(epoch: int, *, send: bool = False) -> KeyEntry:
    """Return a key that nobody has sent with before."""
    return KeyEntry(epoch, group_key(epoch), send=send, unused=True)


async def receive(group: JoinedGroup, count: int) -> list[Message]:
    async with asyncio.timeout(5):
        return [await group.receive() for _ in range(count)]


async def test_two_members_follow_the_daemon_through_a_rekey(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    steps = [
        key_state(None, entry(1, send=True)),
        key_state(None, entry(1, send=True), entry(2)),
        key_state(None, entry(1), entry(2, send=True)),
        key_state(None, entry(2, send=True)),
    ]
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(key_daemon(path, steps[0], 1, 2))
        one, two = [
            await stack.enter_async_context(join(GROUP, unused_udp_port, interface="lo", path=path)) for _ in range(2)
        ]
        assert (one.sender_id, two.sender_id) == (1, 2)
        for number, step in enumerate(steps):
            daemon.publish(step)
            await daemon.until_acknowledged(step.entries[-1].epoch)
            for _ in range(100):
                assert one.send(b"step %d" % number)
            messages = await receive(two, 100)
            assert {message.plaintext for message in messages} == {b"step %d" % number}
            assert {message.sender_id for message in messages} == {1}
        assert daemon.acknowledged == [[1, 2], [1, 2]]
        assert one.send_epoch == 2
        assert one.epochs == (2,)
        assert two.counters["received"] == 400
        assert one.counters["own"] == 400


async def test_a_restarted_sender_waits_until_it_may_send(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with (
        key_daemon(path, key_state(None, entry(1)), 1) as daemon,
        join(GROUP, unused_udp_port, interface="lo", path=path, own_records=True) as group,
    ):
        with pytest.raises(CannotSend, match="receive-only"):
            group.send(b"too early")
        ready = asyncio.create_task(group.ready())
        daemon.publish(key_state(None, entry(1), entry(2)))
        await daemon.until_acknowledged(2)
        assert not ready.done()
        daemon.publish(key_state(None, entry(1), entry(2, send=True)))
        await asyncio.wait_for(ready, 5)
        assert group.send(b"now")
        assert await receive(group, 1) == [(1, 2, 0, b"now")]


async def test_a_listener_asks_for_no_sender_id(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with (
        key_daemon(path, key_state(None, entry(1, send=True)), None, 3) as daemon,
        join(GROUP, unused_udp_port, interface="lo", path=path, will_send=False) as listener,
        join(GROUP, unused_udp_port, interface="lo", path=path) as sender,
    ):
        sender.send(b"hello")
        async with asyncio.timeout(5):
            async for message in listener:
                assert message.plaintext == b"hello"
                break
        with pytest.raises(CannotSend, match="sender id"):
            listener.send(b"x")
        assert [watch.will_send for watch in daemon.watches] == [False, True]


async def test_unfetched_messages_are_bounded_and_counted(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with (
        key_daemon(path, key_state(None, entry(1, send=True)), 1),
        join(GROUP, unused_udp_port, interface="lo", path=path, own_records=True) as group,
    ):
        async with asyncio.timeout(20):
            while group.counters["not_fetched"] < 100:
                for _ in range(50):
                    group.send(b"x")
                await asyncio.sleep(0)
        messages = await receive(group, WAITING_MESSAGES)
        assert [message.sequence for message in messages] == list(range(WAITING_MESSAGES))


async def test_every_call_after_leaving_raises_and_none_hangs(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with key_daemon(path, key_state(None, entry(1, send=True)), 1):
        async with join(GROUP, unused_udp_port, interface="lo", path=path) as group:
            waiting = asyncio.create_task(group.receive())
            await asyncio.sleep(0)
        with pytest.raises(GroupLeft):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(GroupLeft):
            group.send(b"x")
        with pytest.raises(GroupLeft):
            await group.receive()


async def test_timeout_without_a_daemon_names_the_socket(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "nobody.sock"
    with pytest.raises(TimeoutError, match=r"nobody\.sock"):
        async with join(GROUP, unused_udp_port, path=path, timeout=0.05):
            pytest.fail("joined without a daemon")


async def test_interface_that_is_impossible_is_named(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with key_daemon(path, key_state(None, entry(1, send=True)), 1):
        with pytest.raises(ConfigError, match=r"^interface: '' cannot"):
            async with join(GROUP, unused_udp_port, path=path, interface=""):
                pytest.fail("joined on an interface without a name")


@pytest.mark.root
async def test_session_waits_for_its_interface_and_survives_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.sock"
    async with key_daemon(path, key_state(None, entry(1, send=True)), 1):
        with multicast_namespace():
            async with join(GROUP, 12345, path=path, interface="usb0", own_records=True) as group:
                ready = asyncio.create_task(group.ready())
                assert not group.has_interface
                assert not group.send(b"lost")
                assert "'usb0' is no interface of this host now; it has lo, end0, mc0" in caplog.text
                make_interface("usb0", 1)
                await asyncio.wait_for(ready, 5)
                assert group.has_interface
                assert group.send(b"heard")
                assert [message.plaintext for message in await receive(group, 1)] == [b"heard"]
                delete_interface("usb0")
                make_interface("usb0", 1)
                await asyncio.sleep(2 * SETTLE)
                await asyncio.wait_for(group.ready(), 5)
                assert group.send(b"heard again")
                assert [message.plaintext for message in await receive(group, 1)] == [b"heard again"]
                assert (group.counters["send_failed"], group.counters["rejoined"]) == (1, 2)


async def test_new_session_asks_for_a_key_and_receives_from_that_key_on(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    used = replace(entry(1, send=True), unused=False)
    async with (
        key_daemon(path, key_state(None, used), 1) as daemon,
        join(GROUP, unused_udp_port, interface="lo", path=path, own_records=True) as group,
    ):
        ready = asyncio.create_task(group.ready())
        await daemon.until_requested(1)
        assert daemon.key_requests == [KeyNew(KeyNewReason.RECEIVER_BEGAN)]
        assert group.send(b"sending does not wait")
        daemon.publish(key_state(None, used, entry(2)))
        await daemon.until_acknowledged(2)
        assert not ready.done()
        daemon.publish(key_state(None, replace(used, send=False), replace(entry(2, send=True), unused=False)))
        await asyncio.wait_for(ready, 5)
        assert group.send(b"heard")
        assert await receive(group, 1) == [(1, 2, 0, b"heard")]
        assert group.counters["earlier_key"] == 1
        assert daemon.acknowledged == [[2]]


async def test_key_that_is_made_while_we_attach_is_no_earlier_key(tmp_path: Path, unused_udp_port: int) -> None:
    """The daemon sends the key in use, and at once the key that it has made for us and that is in use now."""
    path = tmp_path / "keys.sock"
    used, made = replace(entry(1), unused=False), replace(entry(2, send=True), unused=False)
    async with key_daemon(path, key_state(None, used), 1) as daemon:
        daemon.publish_after_attach(key_state(None, used, made))
        async with join(GROUP, unused_udp_port, interface="lo", path=path) as group:
            await asyncio.wait_for(group.ready(), 5)
            assert group.epochs == (2,)
            assert daemon.key_requests == []


async def test_a_session_whose_daemon_was_restarted_goes_on_receiving(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(key_daemon(path, key_state(None, entry(1, send=True)), 1))
        group = await stack.enter_async_context(
            join(GROUP, unused_udp_port, interface="lo", path=path, own_records=True)
        )
        await first.socket.stop()
        used = replace(entry(1, send=True), unused=False)
        again = await stack.enter_async_context(key_daemon(path, key_state(None, used), 1))
        await again.until_acknowledged(1)
        assert group.epochs == (1,)
        assert group.send(b"heard")
        assert await receive(group, 1) == [(1, 1, 0, b"heard")]
        assert again.key_requests == []


async def test_session_without_a_new_key_receives_with_the_key_in_use_and_logs_it(
    tmp_path: Path, unused_udp_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.modules[JoinedGroup.__module__], "ASKS_EVERY", 0.1)
    monkeypatch.setattr(sys.modules[JoinedGroup.__module__], "HEARS_WITHIN", 0.3)
    path = tmp_path / "keys.sock"
    async with (
        key_daemon(path, key_state(None, replace(entry(1, send=True), unused=False)), 1) as daemon,
        join(GROUP, unused_udp_port, interface="lo", path=path, own_records=True) as group,
    ):
        await asyncio.wait_for(group.ready(), 5)
        assert daemon.key_requests == [KeyNew(KeyNewReason.RECEIVER_BEGAN)] * 3
        await daemon.until_acknowledged(1)
        group.send(b"x")
        assert await receive(group, 1) == [(1, 1, 0, b"x")]
    assert "no new key within 0.3 s" in caplog.text
