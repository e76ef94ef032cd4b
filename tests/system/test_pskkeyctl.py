"""pskkeyctl's verbs that change things or follow them, against real daemons on loopback."""

import asyncio
import json
import os
import signal

from tests.lab.group import Group
from tests.system.loopback import Loopback
from tests.system.pskkeyctl_process import event, run, started
from tests.system.starting import group_of, in_order


async def test_rekey_waits_for_the_new_key(loopback: Loopback) -> None:
    master, client = await group_of(loopback, 2)
    for epoch, daemon in ((2, master), (3, client)):
        code, output, errors = await run(daemon, "rekey", "--wait")
        status = await daemon.status()
        assert status is not None
        (current,) = [key for key in status["keys"] if key["state"] == "current"]
        assert (code, output, errors) == (0, f"epoch {epoch}, {current['fingerprint']}\n", "")
        assert current["epoch"] == epoch
    assert await run(master, "wait", "--epoch", "3") == (0, "", "")
    assert await run(client, "wait", "--synced") == (0, "", "")
    code, output, _ = await run(master, "rekey", "--wait", "--json")
    assert (code, json.loads(output)["epoch"]) == (0, 4)
    assert await run(master, "rekey") == (0, "", "")
    assert await run(client, "wait", "--epoch", "5") == (0, "", "")


async def test_rekey_gives_up_if_a_member_does_not_answer(loopback: Loopback) -> None:
    master, client = await group_of(loopback, 2, dead_after=30)
    client.signal(signal.SIGSTOP)
    code, output, errors = await run(master, "rekey", "--wait", "--timeout", "2")
    assert (code, output) == (5, "")
    assert errors == "pskkeyctl: a new key everywhere: not within 2 s: the key of epoch 2 is being distributed\n"


async def test_switchover(loopback: Loopback) -> None:
    master, successor, other = await group_of(loopback, 3)
    code, _, errors = await run(successor, "switchover")
    assert code == 1
    where = f"n0 ({master.id[:8]}) at {loopback.address(master)}"
    assert errors.endswith(f"only the master can hand over, and that is {where}: run `pskkeyctl switchover` there\n")
    code, _, errors = await run(successor, "switchover", "n2")
    assert (code, errors.endswith(": run `pskkeyctl switchover n2` there\n")) == (1, True)
    code, _, errors = await run(master, "switchover", "nobody")
    assert code == 1
    assert errors.endswith("has the id or name nobody; see pskkeyctl members\n")
    assert await run(master, "switchover", "n2", "--wait") == (0, f"master n2 ({other.id[:8]}), term 2\n", "")
    assert await run(other, "wait", "--role", "master") == (0, "", "")
    await Group((master, successor, other)).together(10)  # the best of the joined members will be the next master
    code, output, _ = await run(other, "switchover", "--wait", "--json")
    assert code == 0
    assert json.loads(output) == {"schema": 1, "master": {"id": master.id, "name": "n0"}, "term": 3}


async def test_wait_gives_up_with_a_sentence(loopback: Loopback) -> None:
    daemon = loopback.daemon("n0")
    goal = ("wait", "--role", "joining", "--timeout", "2")
    assert await run(daemon, *goal) == (
        5,
        "",
        f"pskkeyctl: role joining: not within 2 s: {daemon.control_socket}: "
        "no daemon listens there; is pskkeyd running?\n",
    )
    daemon.start()
    assert await run(daemon, "wait", "--synced") == (0, "", "")
    assert await run(daemon, *goal) == (5, "", "pskkeyctl: role joining: not within 2 s: this node is master\n")
    assert await run(daemon, "wait", "--epoch", "9", "--timeout", "2") == (
        5,
        "",
        "pskkeyctl: epoch 9: not within 2 s: this node sends with epoch 1\n",
    )
    for mistake in (
        ["wait"],
        ["wait", "--epoch", "0"],
        ["wait", "--role", "king"],
        ["wait", "--synced", "--epoch", "1"],
    ):
        assert (await run(daemon, *mistake))[0] == 2


async def test_wait_and_monitor_outlive_the_daemon(loopback: Loopback) -> None:
    daemon = loopback.daemon("n0")
    daemon.start()
    assert (await run(daemon, "wait", "--role", "master"))[0] == 0
    async with started(daemon, "wait", "--epoch", "2") as wait, started(daemon, "monitor", "--json") as monitor:
        start = await event(monitor, event="start")
        assert (start["role"], start["epoch"], start["members"]) == ("master", 1, 1)
        await daemon.stop()
        await event(monitor, event="daemon_away")
        assert wait.returncode is None
        daemon.start()
        await event(monitor, event="daemon_back")
        await event(monitor, event="role", after="master")
        assert (await run(daemon, "rekey", "--wait"))[0] == 0
        # No other node has to acknowledge it.
        await event(monitor, event="key", epoch=2, before=None, after="current")
        assert await asyncio.wait_for(wait.wait(), 10) == 0
        monitor.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(monitor.communicate(), 10)
        assert (monitor.returncode, errors) == (130, b"")


async def test_monitor_reports_members_and_sessions(loopback: Loopback) -> None:
    daemon, newcomer = loopback.daemon("n0", {"node": {"priority": 200}}), loopback.daemon("n1")
    assert (await run(daemon, "monitor"))[0] == 3
    daemon.start()
    assert (await run(daemon, "wait", "--role", "master"))[0] == 0
    async with started(daemon, "monitor", "--json") as monitor:
        await event(monitor, event="start")
        newcomer.start()
        joined = await event(monitor, event="member_joined")
        assert (joined["id"], joined["name"]) == (newcomer.id, "n1")
        stream = await asyncio.open_unix_connection(daemon.control_socket)
        stream[1].write(b"rubbish\0")
        warning = await event(monitor, event="warning")
        assert (warning["counter"], warning["more"], warning["total"]) == ("bad_packets", 1, 1)
        stream[1].close()
        _, writer = await asyncio.open_unix_connection(daemon.keys_socket)
        writer.write(bytes([1, 2, 0, 1, 1]))  # KEY_WATCH of a session manager that will send
        attached = await event(monitor, event="session_attached")
        assert (attached["pid"], attached["sender"]) == (os.getpid(), True)
        assert (await event(monitor, event="sender_id"))["before"] is None
        writer.close()
        await event(monitor, event="session_detached", pid=os.getpid())
        await newcomer.stop()
        await event(monitor, event="member_left", id=newcomer.id)


async def test_nodes_whose_ids_begin_alike_are_one_group_and_can_be_named(loopback: Loopback) -> None:
    ids = [f"{'0' * 15}{number}" for number in range(3)]
    daemons = [
        loopback.daemon(f"n{number}", {"node": {"id": node, "priority": 200 - number}})
        for number, node in enumerate(ids)
    ]
    master, _, last = daemons
    await in_order(daemons)
    _, output, _ = await run(last, "members")
    assert all(f" {node} " in output for node in ids)
    code, _, errors = await run(master, "switchover", "00000000")
    assert code == 1
    assert "00000000 is ambiguous: it fits n" in errors
    assert all(f"({node})" in errors for node in ids[1:])
    assert await run(master, "switchover", ids[2], "--wait") == (0, f"master n2 ({ids[2]}), term 2\n", "")
