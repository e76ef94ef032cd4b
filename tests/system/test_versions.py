"""A daemon and peers of later versions."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tests.lab.daemon import Daemon
from tests.lab.group import Group
from tests.quality.tracked import ROOT
from tests.system.loopback import Loopback
from tests.system.plain_client import GROUP, JOIN, KEY_STATE, MERGE, WITHIN, PlainClient, join
from tests.system.starting import one_daemon, status_of


async def test_join_with_unknown_fields_and_packets_is_welcomed(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    client = await PlainClient.connect(loopback, daemon)
    message = join(loopback, colour="blue", later={"nested": [1, {"deep": None}]})
    message["member"]["later"] = [{}]
    client.send(0x90, b"a packet of a later version")
    client.send(JOIN, message)
    client.send(0xFF, b"")
    _, payload = await client.receive(GROUP)
    group = json.loads(payload)
    assert group["level"] == 1
    assert [member["speaks"] for member in group["members"]] == [[1, 1], [1, 9]]
    await client.receive(KEY_STATE)
    client.send(0x90, bytes(8192))
    client.send(18, b"")  # the first heartbeat confirms that GROUP has arrived
    status = await status_of(daemon)
    while len(status["members"]) < 2:
        await asyncio.sleep(0.02)
        client.send(0x80, b"x")
        client.send(18, b"")
        status = await status_of(daemon)
    later = next(member for member in status["members"] if member["name"] == "later")
    assert (later["version"], later["speaks"]) == ("9.9.9", [1, 9])
    assert (status["level"], status["held_back_by"]) == (1, [daemon.name])
    client.close()


async def test_unknown_packet_that_is_not_optional_is_refused(loopback: Loopback) -> None:
    client = await PlainClient.connect(loopback, await one_daemon(loopback))
    client.send(0x20, b"")
    assert (await client.refusal())["message"].endswith("a packet of type 32 is not allowed here")


async def test_optional_packet_beyond_its_bound_is_refused(loopback: Loopback) -> None:
    client = await PlainClient.connect(loopback, await one_daemon(loopback))
    client.send(0x90, bytes(8193))
    assert "announces 8193 bytes, at most 8192 are allowed" in (await client.refusal())["message"]


async def test_node_or_master_without_a_common_level_is_refused_with_both_ranges(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    merge = {"master": join(loopback)["member"], "term": 1, "members": 5, "epoch": 1, "winner": None}
    for kind, message in ((JOIN, join(loopback, speaks=[9, 12])), (MERGE, {**merge, "speaks": [9, 12]})):
        client = await PlainClient.connect(loopback, daemon)
        client.send(kind, message)
        error = await client.refusal()
        assert error["code"] == "version"
        assert f"{daemon.name} (pskkey 0.1.0) speaks protocol level 1, but later" in error["message"]
        assert "speaks protocol levels 9 to 12: there is no common level" in error["message"]
    later = join(loopback, speaks=[9, 12])
    later["member"]["id"] = "0" * 64
    client = await PlainClient.connect(loopback, daemon)
    client.send(JOIN, later)
    error = await client.refusal()
    assert error["code"] == "version"
    assert "protocol levels 9 to 12" in error["message"]
    status = await status_of(daemon)
    assert (status["role"], status["term"], len(status["members"])) == ("master", 1, 1)
    assert status["counters"]["members_refused"] == 1


def build_that_speaks(directory: Path, lowest: int, highest: int) -> Path:
    """Copy this tree to a directory, and change the protocol levels that it speaks."""
    shutil.copytree(ROOT / "daemon", directory / "daemon", ignore=shutil.ignore_patterns("__pycache__"))
    nodes = directory / "daemon" / "pskkey" / "model" / "nodes.py"
    changed = re.sub(r"(?m)^SPEAKS: Final = .*$", f"SPEAKS: Final = Levels({lowest}, {highest})", nodes.read_text())
    assert changed != nodes.read_text()
    nodes.write_text(changed)
    return directory


async def until_condition(daemon: Daemon, kinds: set[str]) -> dict[str, Any]:
    """Wait until a daemon has conditions of just these kinds. Return its status."""
    async with asyncio.timeout(20):
        while True:
            status = await daemon.status()
            if status is not None and {condition["kind"] for condition in status["conditions"]} == kinds:
                return status
            await asyncio.sleep(0.1)


async def test_nodes_without_a_common_level_show_each_other_and_join_after_an_upgrade(
    loopback: Loopback, tmp_path: Path
) -> None:
    master = await one_daemon(loopback)
    stranger = loopback.daemon("n2")
    stranger.build = build_that_speaks(tmp_path / "apart", 9, 12)
    stranger.start()
    for daemon in (stranger, master):
        status = await until_condition(daemon, {"no_common_level"})
        assert status["role"] == "master", "each is a group of its own"
        (condition,) = status["conditions"]
        assert "protocol level 1" in condition["text"]
        assert "protocol levels 9 to 12" in condition["text"]
        assert condition["remedy"].startswith("install versions of pskkey that have a level in common")
    await asyncio.sleep(3.0)
    counters = (await status_of(stranger))["counters"]
    assert counters.get("connects_ok", 0) + counters.get("connects_failed", 0) == 0, "it does not even connect"
    await stranger.stop()
    stranger.build = build_that_speaks(tmp_path / "overlapping", 1, 12)
    stranger.start()
    await Group([master, stranger]).together(20)
    for daemon in (master, stranger):
        status = await until_condition(daemon, set())
        assert (status["level"], status["held_back_by"]) == (1, [master.name])


async def test_status_shows_the_level_of_a_session_manager(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    reader, writer = await asyncio.open_unix_connection(daemon.keys_socket)
    writer.write(bytes.fromhex("0190 0003 010203"))  # an optional packet of a later version
    writer.write(bytes.fromhex("0102 000c 00 0000000000000007 03 ffff"))  # KEY_WATCH of level 3, with bytes of its own
    async with asyncio.timeout(WITHIN):
        assert (await reader.readexactly(4))[1] == KEY_STATE
    assert [session["level"] for session in (await status_of(daemon))["sessions"]] == [3]
    writer.close()
