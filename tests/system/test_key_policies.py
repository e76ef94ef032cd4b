"""The policies of the group key of running daemons: they are set at a reload, and session managers obey them."""

from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.model import KeyState
from tests.system.loopback import Loopback
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
