"""The master shows with which pre-shared key each member is connected, also while the group moves to another one."""

import asyncio
import time

from pskkey.config.psk import generate_psk_line
from tests.lab.daemon import Daemon
from tests.system.loopback import Loopback
from tests.system.pskkeyctl_process import run
from tests.system.reloading import reload
from tests.system.starting import in_order, nodes, psk_of


async def until_shown(master: Daemon, wanted: dict[str, str | None]) -> None:
    """Wait until the master shows these identities, by the names of the members."""
    deadline = time.monotonic() + 10
    while (found := await in_use(master)) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def in_use(daemon: Daemon) -> dict[str, str | None]:
    status = await daemon.status()
    assert status is not None
    return {member["name"]: member["psk_identity"] for member in status["members"]}


async def test_master_shows_each_move_of_a_member_to_the_new_key(loopback: Loopback) -> None:
    daemons = nodes(loopback, "".join(generate_psk_line(name) + "\n" for name in ("old", "new")))
    await in_order(daemons)
    master, first, second = daemons
    await until_shown(master, {"n0": None, "n1": "old", "n2": "old"})
    assert set((await in_use(first)).values()) == {None}
    assert (await run(first, "psk", "use", "new", "--file", str(psk_of(first))))[0] == 0
    await reload(first)
    await until_shown(master, {"n0": None, "n1": "new", "n2": "old"})
    _, output, _ = await run(master, "members")
    words = [line.lstrip("* ").split() for line in output.splitlines()]
    assert {row[0]: row[-1] for row in words} == {"NAME": "PSK", "n0": "-", "n1": "new", "n2": "old"}
    assert await second.stop() == 0
    await until_shown(master, {"n0": None, "n1": "new"})
