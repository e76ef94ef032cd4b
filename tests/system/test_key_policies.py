"""The policies of the group key of running daemons: they are set at a reload, and session managers obey them."""

import asyncio
import signal

import pytest

from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.model import KeyState
from tests.lab.daemon import Daemon
from tests.lab.group import Group
from tests.system.loopback import Loopback
from tests.system.pskkeyctl_process import run
from tests.system.reloading import edit, reload, until
from tests.system.starting import in_order, status_of

WITHIN = 10.0
"""Seconds in which a state must come."""


def may_send(state: KeyState) -> bool:
    """Return whether a session manager may send."""
    return state.sender_id is not None and any(entry.send for entry in state.entries)


async def test_reload_applies_the_policies(loopback: Loopback) -> None:
    (daemon,) = [loopback.daemon("n0")]
    await in_order([daemon])
    edit(daemon, {"key": {"rekey_interval": 3600, "rekey_on_leave": True, "expires_after": 60}})
    log = await reload(daemon)
    assert "[key] rekey_interval changed from 86400.0 to 3600.0" in log
    assert "[key] rekey_on_leave changed from false to true" in log
    assert "[key] expires_after changed from 0.0 to 60.0" in log
    assert "restart" not in log


async def test_node_without_master_stops_sending_until_the_master_is_back(loopback: Loopback) -> None:
    master, other = loopback.daemon("n0"), loopback.daemon("n1", {"node": {"eligible": False}})
    await in_order([master, other])
    edit(other, {"key": {"expires_after": 1}})
    await reload(other)
    async with AsyncKeyWatcher(other.keys_socket, will_send=True) as watcher:
        while not may_send(state := await watcher.wait(WITHIN)):
            pass
        await master.stop()
        while may_send(state := await watcher.wait(WITHIN)):
            pass
        assert state.entries, "it goes on receiving"
        assert all(entry.receive for entry in state.entries)
        await until(other, "the group key has expired, because this node has had no master for 1 s")
        conditions = {one["kind"]: one for one in (await status_of(other))["conditions"]}
        assert "pskkeyctl doctor" in conditions["key_expired"]["remedy"]
        size = len(other.log)
        master.start()
        while not may_send(await watcher.wait(WITHIN)):
            pass
        await until(other, "over: the group key has expired", size)


@pytest.mark.slow
async def test_new_key_comes_a_minute_after_the_last_one_when_a_member_has_left(loopback: Loopback) -> None:
    """The master changes meanwhile, and the next one joined only after the member had left."""
    policy = {"key": {"rekey_on_leave": True}}
    master, gone, late = (loopback.daemon(f"n{n}", policy) for n in range(3))
    await in_order([master, gone])
    began = asyncio.get_running_loop().time()
    gone.signal(signal.SIGKILL)
    await gone.ended()
    await asyncio.sleep(6.0)
    late.start()
    await Group([master, late]).together(20)
    assert (await run(master, "switchover", "--wait", late.name))[0] == 0
    shown = await status_of(late)
    assert (shown["role"], [key["epoch"] for key in shown["keys"]]) == ("master", [1])
    await until(late, "making a new key: these nodes have left and know the current one", within=80.0)
    assert asyncio.get_running_loop().time() - began > 50.0
    deadline = asyncio.get_running_loop().time() + 20
    while {await current_epoch(daemon) for daemon in (master, late)} != {2}:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def current_epoch(daemon: Daemon) -> int:
    """Return the epoch of the key that a daemon sends with."""
    (epoch,) = [key["epoch"] for key in (await status_of(daemon))["keys"] if key["state"] == "current"]
    assert isinstance(epoch, int)
    return epoch
