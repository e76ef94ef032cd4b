"""The reports of pskkeyctl on troubles and on a restart of its daemon, against real daemons on loopback."""

import asyncio
import json
import re
import signal

from tests.system.loopback import MULTICAST_INTERFACE, Loopback
from tests.system.pskkeyctl_process import event, run, started
from tests.system.starting import group_of

RELOAD_FAILED = "the last reload failed; see the journal, correct the file and reload again"


async def test_monitor_reports_no_lost_members_after_a_restart_of_its_daemon(loopback: Loopback) -> None:
    master, client, other = await group_of(loopback, 3)
    async with started(client, "monitor", "--json") as monitor:
        await event(monitor, event="start")
        await client.stop()
        await event(monitor, event="daemon_away")
        await other.stop()
        client.start()
        await event(monitor, event="daemon_back")
        others = []
        assert monitor.stdout is not None
        while (report := json.loads(await asyncio.wait_for(monitor.stdout.readline(), 20)))["event"] != "member_left":
            others.append(report)
        assert report["id"] == other.id
        assert [one["event"] for one in others if one["event"].startswith(("member", "session"))] == []
        # The daemon may be a client again before the monitor looks.
        assert [one["after"] for one in others if one["event"] == "role"][-1:] in ([], ["client"])
        newcomer = loopback.daemon("n3")
        newcomer.start()
        assert (await event(monitor, event="member_joined"))["id"] == newcomer.id
        assert (await run(master, "wait", "--synced"))[0] == 0


async def test_status_shows_lasting_troubles_and_the_age_of_others(loopback: Loopback) -> None:
    daemon = loopback.daemon("n0", {"network": {"interfaces": [MULTICAST_INTERFACE, "eht0"]}})
    daemon.start()
    assert (await run(daemon, "wait", "--role", "master"))[0] == 0
    missing = "[network] interfaces: this machine has no eht0 now; it has "
    async with started(daemon, "monitor", "--json") as monitor:
        await event(monitor, event="start")
        _, writer = await asyncio.open_unix_connection(daemon.control_socket)
        writer.write(b"rubbish\0")
        await event(monitor, event="warning", counter="bad_packets")
        writer.close()
        _, output, _ = await run(daemon, "status")
        first, second = output.partition("  Trouble   ")[2].splitlines()
        assert first.startswith(missing)
        assert re.fullmatch(r" {12}bad packets: 1, the last \d+ s ago", second)
        status = await daemon.status()
        assert status is not None
        assert 0 <= status["counter_ages_s"]["bad_packets"] < 20
        assert "handshakes_failed" not in status["counter_ages_s"]
        with daemon.config.open("a") as file:
            file.write("[nonsense]\n")
        daemon.signal(signal.SIGHUP)
        assert (await event(monitor, event="trouble"))["text"] == RELOAD_FAILED
        _, output, _ = await run(daemon, "status")
        assert f"\n            {RELOAD_FAILED} (for " in output
        daemon.config.write_text(daemon.config.read_text().removesuffix("[nonsense]\n"))
        daemon.signal(signal.SIGHUP)
        over = await event(monitor, event="trouble", over=True)
        assert over["text"] == RELOAD_FAILED
