"""Session managers in C and in Python, each with a real daemon of its own, in one group and through its changes of key.

In every test a bystander sees all datagrams, and fails it if a sequence number was used twice under one key.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGKILL

import pytest

from pskkey import AsyncKeyWatcher, Suite
from pskkey.mcast import MulticastEndpoint
from tests.interop.members import (
    INTERFACE,
    RATE,
    CMember,
    Place,
    PythonMember,
    StartDaemons,
    Tally,
    Wire,
    settled,
)
from tests.lab.daemon import Daemon

A_WHILE = 0.3
"""Seconds in which a member sends a good number of datagrams."""

# type, version, epoch (EE is replaced by the one in use), sender id, upper byte of the sequence, the rest of it (NNNN
# is replaced by a number), length, body. The numbers are ahead of all others, so that it is not their age for which
# they are refused.
RUBBISH = [
    kind + version + epoch + sender + b"\1NNNN" + length.to_bytes(2) + bytes(size)
    for sender in (b"\0", b"\1")
    for kind, version, epoch, length, size in (
        (b"\x17", b"\xfe\xfd", b"EE", 40, 40),  # not authentic
        (b"\x17", b"\xfe\xfd", b"EE", 0, 0),  # shorter than a tag, which wolfSSL would not get over
        (b"\x17", b"\xfe\xfd", b"EE", 15, 15),
        (b"\x17", b"\xfe\xfd", b"EE", 16, 16),
        (b"\x17", b"\xfe\xfd", b"EE", 40, 39),  # cut
        (b"\x17", b"\xfe\xfd", b"EE", 40, 41),  # with something after it
        (b"\x17", b"\xfe\xff", b"EE", 40, 40),  # another version, which wolfSSL would answer with an alert
        (b"\x17", b"\x03\x03", b"EE", 40, 40),
        (b"\x15", b"\xfe\xfd", b"EE", 18, 18),  # an alert
        (b"\x15", b"\xfe\xfd", b"\0\0", 2, 2),  # and in clear
        (b"\x16", b"\xfe\xfd", b"EE", 40, 40),  # a handshake
        (b"\x17", b"\xfe\xfd", b"\0\0", 40, 40),  # epoch 0
        (b"\x17", b"\xfe\xfd", b"\xff\2", 40, 40),  # an epoch that nobody has
    )
]


@pytest.mark.parametrize("suite", list(Suite))
async def test_none_is_lost_through_a_rekey(
    start_daemons: StartDaemons, session_manager: Path, place: Place, suite: Suite
) -> None:
    daemons = await start_daemons(3, suite)
    async with Wire.tap(place) as wire, AsyncExitStack() as stack:
        in_c = [
            await stack.enter_async_context(CMember.run(session_manager, daemon.keys_socket, place))
            for daemon in daemons[:2]
        ]
        in_python = await stack.enter_async_context(PythonMember.run(daemons[2].keys_socket, place))
        epoch = await settled(daemons, [*in_c, in_python])
        await asyncio.sleep(A_WHILE)
        await request_new_key(daemons[1])
        for member in in_c:
            await member.says(
                f"epoch {epoch + 1}: installed for reception",
                f"epoch {epoch + 1}: sending as sender *",
                f"epoch {epoch}: dropped, sent *",
            )
        await asyncio.sleep(2 * A_WHILE)  # what a stall before their stop leaves overdue is never sent
        assert in_python.session.epochs == (epoch + 1,)
        tallies = [in_python.tally, *[await member.stop() for member in in_c]]
    assert len(wire.senders) == 3
    assert all(wire.epochs_of(sender)[-2:] == [epoch, epoch + 1] for sender in wire.senders)
    for tally in tallies:
        assert_nothing_lost(tally, of=2)
        assert tally.sent > 2 * RATE
        assert tally.refused == 0


async def test_a_restarted_sender_waits_for_the_next_epoch(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    first, second = await start_daemons(2)
    async with Wire.tap(place) as wire, PythonMember.run(second.keys_socket, place) as listener:
        async with CMember.run(session_manager, first.keys_socket, place) as member:
            epoch = await settled([first, second], [member, listener])
            await asyncio.sleep(A_WHILE)
            member.kill()
        before = listener.heard
        async with CMember.run(session_manager, first.keys_socket, place) as again:
            await again.says(f"epoch {epoch}: installed", f"epoch {epoch + 1}: sending as sender *")
            await asyncio.sleep(A_WHILE)
            tally = await again.stop()
        await asyncio.sleep(A_WHILE)
        assert listener.heard - before == tally.sent > 0
        assert not any(line.startswith(f"epoch {epoch}: sending") for line in again.lines)
        assert_nothing_lost(listener.tally, of=1)
        assert_nothing_lost(tally, of=1)
    assert all(wire.epochs_of(sender)[-2:] == [epoch, epoch + 1] for sender in wire.senders)


async def test_a_node_that_came_back_from_a_crash_waits_for_the_next_epoch(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    first, second = await start_daemons(2)
    async with Wire.tap(place), PythonMember.run(first.keys_socket, place) as listener:
        async with CMember.run(session_manager, second.keys_socket, place) as member:
            epoch = await settled([first, second], [member, listener])
            await asyncio.sleep(A_WHILE)
            member.kill()
            second.signal(SIGKILL)
            await second.ended()
        before = listener.heard
        second.start()
        async with CMember.run(session_manager, second.keys_socket, place) as again:
            await again.says(f"epoch {epoch + 1}: sending as sender *")
            await asyncio.sleep(A_WHILE)
            tally = await again.stop()
        await asyncio.sleep(A_WHILE)
        assert listener.heard - before == tally.sent > 0
        assert not any(line.startswith(f"epoch {epoch}: sending") for line in again.lines)
        assert_nothing_lost(listener.tally, of=1)


async def test_the_key_stays_in_use_while_the_daemon_restarts(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    first, second = await start_daemons(2)
    async with (
        Wire.tap(place),
        PythonMember.run(first.keys_socket, place) as in_python,
        CMember.run(session_manager, second.keys_socket, place) as in_c,
    ):
        epoch = await settled([first, second], [in_python, in_c])
        await asyncio.sleep(A_WHILE)
        assert await second.stop() == 0
        await in_c.says("keys.sock: *")
        await in_python.hears(in_python.heard + RATE * A_WHILE / 2)
        second.start()
        # The new daemon cannot know what was sent before its time, so the group rolls to a new key.
        await in_c.says(f"epoch {epoch + 1}: sending as sender *", f"epoch {epoch}: dropped, sent *")
        await asyncio.sleep(A_WHILE)
        tally = await in_c.stop()
        assert_nothing_lost(tally, of=1)
        assert_nothing_lost(in_python.tally, of=1)


async def test_nothing_is_lost_when_the_master_dies(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    master, *clients = await start_daemons(3)
    async with Wire.tap(place), AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(CMember.run(session_manager, daemon.keys_socket, place))
            for daemon in (master, *clients)
        ]
        epoch = await settled([master, *clients], members)
        master.signal(SIGKILL)
        await master.ended()
        await members[0].says("keys.sock: *")
        await asyncio.sleep(1.5)  # the others have another master by now
        master.start()
        for member in members:
            await member.says(f"epoch {epoch + 1}: sending as sender *", f"epoch {epoch}: dropped, sent *", within=15)
        await asyncio.sleep(A_WHILE)
        for tally in [await member.stop() for member in members]:
            assert_nothing_lost(tally, of=2)


@pytest.mark.parametrize("suite", list(Suite))
async def test_rubbish_in_the_group_costs_nothing(
    start_daemons: StartDaemons, session_manager: Path, place: Place, suite: Suite
) -> None:
    daemons = await start_daemons(2, suite)
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(CMember.run(session_manager, daemon.keys_socket, place))
            for daemon in daemons
        ]
        epoch = await settled(daemons, members)
        rounds = 50
        with MulticastEndpoint(place.address, place.port, lambda _: None, interface=INTERFACE) as stranger:
            for number in range(rounds):
                for datagram in RUBBISH:
                    numbered = datagram.replace(b"NNNN", number.to_bytes(4)).replace(b"EE", epoch.to_bytes(2))
                    assert stranger.send(numbered)
                await asyncio.sleep(0.01)
        await asyncio.sleep(A_WHILE)
        for tally in [await member.stop() for member in members]:
            assert_nothing_lost(tally, of=1)
            assert tally.refused >= rounds * len(RUBBISH) / 2  # what claims to come from itself is passed over
            assert sum(tally.received.values()) > RATE / 2


async def request_new_key(daemon: Daemon) -> None:
    """Ask for a new key as any local program may, and wait until it is there."""
    async with AsyncKeyWatcher(daemon.keys_socket) as watcher:
        before = listed = {entry.epoch for entry in (await watcher.wait(10)).entries}
        watcher.request_new_key()
        async with asyncio.timeout(10):
            while listed <= before:  # a state also comes when only the senders in it have changed
                listed = {entry.epoch for entry in (await watcher.wait()).entries}


def assert_nothing_lost(tally: Tally, of: int) -> None:
    """It has received of so many senders, and of none of them has it lost anything."""
    assert len(tally.received) == of
    assert all(tally.received.values())
    assert not any(tally.lost.values()), tally


async def test_what_a_stranger_recorded_before_a_restart_is_not_taken_for_new(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    daemon, other = await start_daemons(2)
    recorded: list[bytes] = []
    with MulticastEndpoint(place.address, place.port, recorded.extend, interface=INTERFACE) as stranger:
        async with CMember.run(session_manager, other.keys_socket, place) as sender:
            epoch = await settled([daemon, other], [sender])
            recorded.clear()
            await asyncio.sleep(A_WHILE)
            sender.kill()
        recordings = list(recorded)
        assert len(recordings) > RATE * A_WHILE / 4
        async with CMember.run(session_manager, daemon.keys_socket, place) as receiver:
            await receiver.says(f"epoch {epoch}: installed*")
            for datagram in recordings:
                stranger.send(datagram)
            await asyncio.sleep(A_WHILE)
            tally = await receiver.stop()
    assert sum(tally.received.values()) == 0
