"""Session managers in C and in Python, each with a real daemon of its own, in one group that rekeys.

`Wire` records all datagrams, and fails a test in which a sequence number was used twice under one key.
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
    wait_until_settled,
)
from tests.lab.daemon import Daemon

A_WHILE = 0.3
"""Seconds. In this time a member sends enough datagrams for a test."""

# Type, version, epoch (the test replaces EE by the current epoch), sender id, upper byte of the sequence number, its
# other bytes (the test replaces NNNN by a number), length, body. The sequence numbers are higher than all valid ones,
# so that no datagram is refused for its age.
INVALID_DATAGRAMS = [
    kind + version + epoch + sender + b"\1NNNN" + length.to_bytes(2) + bytes(size)
    for sender in (b"\0", b"\1")
    for kind, version, epoch, length, size in (
        (b"\x17", b"\xfe\xfd", b"EE", 40, 40),  # not authentic
        (b"\x17", b"\xfe\xfd", b"EE", 0, 0),  # shorter than a tag: wolfSSL would receive nothing afterwards
        (b"\x17", b"\xfe\xfd", b"EE", 15, 15),
        (b"\x17", b"\xfe\xfd", b"EE", 16, 16),
        (b"\x17", b"\xfe\xfd", b"EE", 40, 39),  # truncated
        (b"\x17", b"\xfe\xfd", b"EE", 40, 41),  # longer than its length field
        (b"\x17", b"\xfe\xff", b"EE", 40, 40),  # another version: wolfSSL would answer with an alert
        (b"\x17", b"\x03\x03", b"EE", 40, 40),
        (b"\x15", b"\xfe\xfd", b"EE", 18, 18),  # an alert
        (b"\x15", b"\xfe\xfd", b"\0\0", 2, 2),  # an alert in clear
        (b"\x16", b"\xfe\xfd", b"EE", 40, 40),  # a handshake
        (b"\x17", b"\xfe\xfd", b"\0\0", 40, 40),  # epoch 0
        (b"\x17", b"\xfe\xfd", b"\xff\2", 40, 40),  # an epoch that nobody has
    )
]


@pytest.mark.parametrize("suite", list(Suite))
async def test_a_rekey_loses_no_datagram(
    start_daemons: StartDaemons, session_manager: Path, place: Place, suite: Suite
) -> None:
    daemons = await start_daemons(3, suite)
    async with Wire.tap(place) as wire, AsyncExitStack() as stack:
        in_c = [
            await stack.enter_async_context(CMember.run(session_manager, daemon.keys_socket, place))
            for daemon in daemons[:2]
        ]
        in_python = await stack.enter_async_context(PythonMember.run(daemons[2].keys_socket, place))
        epoch = await wait_until_settled(daemons, [*in_c, in_python])
        await asyncio.sleep(A_WHILE)
        await request_new_key(daemons[1])
        for member in in_c:
            await member.wait_until_printed(
                f"epoch {epoch + 1}: installed for reception",
                f"epoch {epoch + 1}: sending as sender *",
                f"epoch {epoch}: dropped, sent *",
            )
        # A member never sends the datagrams that are overdue at its stop. So wait longer, in case of a stall.
        await asyncio.sleep(2 * A_WHILE)
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
            epoch = await wait_until_settled([first, second], [member, listener])
            await asyncio.sleep(A_WHILE)
            member.kill()
        before = listener.received
        async with CMember.run(session_manager, first.keys_socket, place) as again:
            await again.wait_until_printed(f"epoch {epoch}: installed", f"epoch {epoch + 1}: sending as sender *")
            await asyncio.sleep(A_WHILE)
            tally = await again.stop()
        await asyncio.sleep(A_WHILE)
        assert listener.received - before == tally.sent > 0
        assert not any(line.startswith(f"epoch {epoch}: sending") for line in again.lines)
        assert_nothing_lost(listener.tally, of=1)
        assert_nothing_lost(tally, of=1)
    assert all(wire.epochs_of(sender)[-2:] == [epoch, epoch + 1] for sender in wire.senders)


async def test_a_sender_waits_for_the_next_epoch_after_a_crash_of_its_node(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    first, second = await start_daemons(2)
    async with Wire.tap(place), PythonMember.run(first.keys_socket, place) as listener:
        async with CMember.run(session_manager, second.keys_socket, place) as member:
            epoch = await wait_until_settled([first, second], [member, listener])
            await asyncio.sleep(A_WHILE)
            member.kill()
            second.signal(SIGKILL)
            await second.ended()
        before = listener.received
        second.start()
        async with CMember.run(session_manager, second.keys_socket, place) as again:
            await again.wait_until_printed(f"epoch {epoch + 1}: sending as sender *")
            await asyncio.sleep(A_WHILE)
            tally = await again.stop()
        await asyncio.sleep(A_WHILE)
        assert listener.received - before == tally.sent > 0
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
        epoch = await wait_until_settled([first, second], [in_python, in_c])
        await asyncio.sleep(A_WHILE)
        assert await second.stop() == 0
        await in_c.wait_until_printed("keys.sock: *")
        await in_python.wait_until_received(in_python.received + RATE * A_WHILE / 2)
        second.start()
        # The new daemon does not know which sequence numbers were used before its start, so the group rekeys.
        await in_c.wait_until_printed(f"epoch {epoch + 1}: sending as sender *", f"epoch {epoch}: dropped, sent *")
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
        epoch = await wait_until_settled([master, *clients], members)
        master.signal(SIGKILL)
        await master.ended()
        await members[0].wait_until_printed("keys.sock: *")
        await asyncio.sleep(1.5)  # now the others have another master
        master.start()
        for member in members:
            await member.wait_until_printed(
                f"epoch {epoch + 1}: sending as sender *", f"epoch {epoch}: dropped, sent *", within=15
            )
        await asyncio.sleep(A_WHILE)
        for tally in [await member.stop() for member in members]:
            assert_nothing_lost(tally, of=2)


@pytest.mark.parametrize("suite", list(Suite))
async def test_invalid_datagrams_in_the_group_cause_no_loss(
    start_daemons: StartDaemons, session_manager: Path, place: Place, suite: Suite
) -> None:
    daemons = await start_daemons(2, suite)
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(CMember.run(session_manager, daemon.keys_socket, place))
            for daemon in daemons
        ]
        epoch = await wait_until_settled(daemons, members)
        rounds = 50
        with MulticastEndpoint(place.address, place.port, lambda _: None, interface=INTERFACE) as stranger:
            for number in range(rounds):
                for datagram in INVALID_DATAGRAMS:
                    numbered = datagram.replace(b"NNNN", number.to_bytes(4)).replace(b"EE", epoch.to_bytes(2))
                    assert stranger.send(numbered)
                await asyncio.sleep(0.01)
        await asyncio.sleep(A_WHILE)
        for tally in [await member.stop() for member in members]:
            assert_nothing_lost(tally, of=1)
            # A member ignores datagrams with its own sender id, and refuses the others.
            assert tally.refused >= rounds * len(INVALID_DATAGRAMS) / 2
            assert sum(tally.received.values()) > RATE / 2


async def request_new_key(daemon: Daemon) -> None:
    """Send a rekey request as any local program may, and wait for the new key."""
    async with AsyncKeyWatcher(daemon.keys_socket) as watcher:
        before = listed = {entry.epoch for entry in (await watcher.wait(10)).entries}
        watcher.request_new_key()
        async with asyncio.timeout(10):
            while listed <= before:  # a change of the senders also sends a key state
                listed = {entry.epoch for entry in (await watcher.wait()).entries}


def assert_nothing_lost(tally: Tally, of: int) -> None:
    """Assert that the member received from `of` senders and lost no datagram from them."""
    assert len(tally.received) == of
    assert all(tally.received.values())
    assert not any(tally.lost.values()), tally


async def test_a_new_member_does_not_receive_datagrams_recorded_before_its_start(
    start_daemons: StartDaemons, session_manager: Path, place: Place
) -> None:
    daemon, other = await start_daemons(2)
    recorded: list[bytes] = []
    with MulticastEndpoint(place.address, place.port, recorded.extend, interface=INTERFACE) as stranger:
        async with CMember.run(session_manager, other.keys_socket, place) as sender:
            epoch = await wait_until_settled([daemon, other], [sender])
            recorded.clear()
            await asyncio.sleep(A_WHILE)
            sender.kill()
        recordings = list(recorded)
        assert len(recordings) > RATE * A_WHILE / 4
        async with CMember.run(session_manager, daemon.keys_socket, place) as receiver:
            await receiver.wait_until_printed(f"epoch {epoch}: installed*")
            for datagram in recordings:
                stranger.send(datagram)
            await asyncio.sleep(A_WHILE)
            tally = await receiver.stop()
    assert sum(tally.received.values()) == 0
