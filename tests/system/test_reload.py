"""Reloads of a running daemon: settings that apply at once, settings that need a restart, and broken files."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from tests.lab.daemon import Daemon
from tests.lab.group import Group
from tests.system.loopback import DIES_WITH_US, Loopback
from tests.system.notify_socket import NotifySocket
from tests.system.ordinary_user import USER, as_ordinary_user
from tests.system.reloading import edit, reload, until
from tests.system.starting import in_order, one_daemon, status_of


async def test_reload_logs_each_changed_setting_and_whether_it_needs_a_restart(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    edit(
        daemon,
        {
            "node": {"priority": 7, "name": "other", "sender_id": 9},
            "network": {"port": 11112},
            "group": {"name": "another"},
            "log": {"level": "debug"},
        },
    )
    log = await reload(daemon, "[network] port changed")
    assert "reloaded: [node] name changed from " in log
    assert "[node] priority changed from 100 to 7" in log
    assert '[log] level changed from "info" to "debug"' in log
    assert "[network] port changed from 11111 to 11112: takes effect at the next restart" in log
    assert f'[group] name changed from "{loopback.group}" to "another": takes effect at the next restart' in log
    assert "[node] sender_id changed from unset to 9: takes effect at the next restart" in log
    status = await status_of(daemon)
    assert (status["node"]["name"], status["node"]["priority"]) == ("other", 7)
    assert (status["group"], status["role"], status["term"]) == (loopback.group, "master", 1)
    # Each reload logs the change again, until the file has the former value.
    assert "[node] sender_id changed" in await reload(daemon, "[network] port changed")
    edit(daemon, {"network": {"port": 11111}, "group": {"name": loopback.group}})
    size = len(daemon.log)
    await reload(daemon, "[node] sender_id changed")
    edit(daemon, {"node": {"priority": 8}})
    # After this reload the lines of the former one are complete.
    assert "[node] priority changed from 7 to 8" in await reload(daemon)
    for taken_back in ("[group] name", "[network] port"):
        assert taken_back not in daemon.log[size:]


async def test_members_learn_of_a_reload(loopback: Loopback) -> None:
    daemons = [loopback.daemon(name, {"node": {"priority": 200 - n}}) for n, name in enumerate(("n0", "n1", "n2"))]
    group = await in_order(daemons)
    edit(daemons[2], {"node": {"priority": 250}})
    await reload(daemons[2])
    for daemon in daemons:
        await _until_priority(daemon, daemons[2].id, 250)
    # A reload can switch preemption on. Then the better node takes over without a gap.
    edit(daemons[0], {"election": {"preempt": True}})
    await reload(daemons[0])
    await until(daemons[2], "we are master of term 2: it was handed over to us")
    await group.together(10)
    # A master that is no longer eligible hands over.
    edit(daemons[2], {"node": {"eligible": False}})
    await reload(daemons[2])
    await until(daemons[0], "we are master of term 3: it was handed over to us")
    _, statuses = await group.together(10)
    assert {status["keys"][0]["epoch"] for status in statuses.values() if status} == {1}


async def _until_priority(daemon: Daemon, node: str, priority: int) -> None:
    deadline = time.monotonic() + 5
    while True:
        members = {member["id"]: member["priority"] for member in (await status_of(daemon))["members"]}
        if members.get(node) == priority:
            return
        assert time.monotonic() < deadline, members
        await asyncio.sleep(0.05)


async def test_reload_with_one_path_for_two_sockets_changes_nothing(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    edit(daemon, {"node": {"priority": 7}, "handoff": {"socket": "control.sock"}})
    log = await reload(daemon, "nothing changed")
    path = daemon.directory / "control.sock"
    assert f'not reloaded, nothing changed: {daemon.config}: [control] socket: "{path}" is also the path of [ha' in log
    assert (await status_of(daemon))["node"]["priority"] == 100


async def test_times_apply_at_once(loopback: Loopback) -> None:
    patient = {"election": {"dead_after": 60}}
    daemons = [loopback.daemon(name, {"node": {"priority": 200 - n}, **patient}) for n, name in enumerate(("n0", "n1"))]
    group = await in_order(daemons)
    for daemon in daemons:
        edit(daemon, {"election": {"heartbeat_interval": 0.2, "dead_after": 1}})
        await reload(daemon)
    await group.stay_together(1)
    size = len(daemons[1].log)
    daemons[0].signal(signal.SIGSTOP)
    await until(daemons[1], "we are master of term 2", size)


@pytest.mark.parametrize(
    ("table", "line", "reason"),
    [
        ("node", "priority = 256", "[node] priority: 256 is out of range"),
        ("node", "prioriti = 1", "there is no such key"),
        ("network", 'addresses = "', "not TOML"),
        ("handoff", 'users = ["nobody-of-this-name"]', "is no user of this machine"),
        ("handoff", f"users = {'9' * 5000}", "a number is far too long"),
    ],
)
async def test_a_broken_configuration_changes_nothing(loopback: Loopback, table: str, line: str, reason: str) -> None:
    daemon = await one_daemon(loopback)
    good = daemon.config.read_text()
    edit(daemon, {"node": {"priority": 7}})
    loopback.psk.write_text(loopback.psk.read_text() + f"spare:{os.urandom(32).hex()}\n")
    text = daemon.config.read_text()
    if table == "node":
        text = text.replace("priority = 7", f"{line}\nname = " + '"other"').replace('name = "n1"\n', "")
    else:
        text = text.replace(f"[{table}]\n", f"[{table}]\n{line}\n")
    daemon.config.write_text(text)
    log = await reload(daemon, "not reloaded, nothing changed: ")
    assert reason in log
    assert str(daemon.config) in log
    assert len(log.splitlines()) == 1
    status = await status_of(daemon)
    assert (status["node"]["priority"], status["node"]["name"]) == (100, "n1")
    daemon.config.write_text(good)
    assert "2 identities accepted" in await reload(daemon, "reloaded: ")


async def test_a_broken_psk_file_changes_nothing(loopback: Loopback) -> None:
    with NotifySocket(loopback.directory / "notify") as notify:
        daemon = await one_daemon(loopback, environment=notify.environment)
        good = loopback.psk.read_text()
        edit(daemon, {"node": {"priority": 7}})
        for content, mode, reason in (
            ("nonsense\n", 0o600, "line 1: is not of the form 'identity:hexkey'"),
            ("", 0o600, "holds no PSK"),
            (good, 0o644, "every user"),
        ):
            loopback.psk.write_text(content)
            loopback.psk.chmod(mode)
            log = await reload(daemon, "not reloaded, nothing changed: ")
            assert reason in log
            assert len(log.splitlines()) == 1
            assert (await status_of(daemon))["node"]["priority"] == 100
        await notify.until("STATUS=Master of 1 node, term 1, key epoch 1; the last reload failed")
        loopback.psk.chmod(0o600)
        await reload(daemon, "reloaded: [node] priority changed from 100 to 7")
        assert await notify.until("STATUS=Master") == "STATUS=Master of 1 node, term 1, key epoch 1"


async def test_daemon_reports_begin_and_end_of_a_reload_to_the_service_manager(loopback: Loopback) -> None:
    with NotifySocket(loopback.directory / "notify") as notify:
        daemon = await one_daemon(loopback, environment=notify.environment)
        for content in (daemon.config.read_text(), "[nonsense"):
            daemon.config.write_text(content)
            notify.pass_over()
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            daemon.signal(signal.SIGHUP)
            await notify.until("RELOADING=1")
            stamp = int((await notify.until("MONOTONIC_USEC=")).partition("=")[2])
            assert before <= stamp <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            await notify.until("READY=1")
        assert await daemon.stop() == 0


async def test_a_pipe_in_the_place_of_a_file_changes_nothing(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    for path in (daemon.config, loopback.psk):
        kept = path.rename(path.with_suffix(".kept"))
        os.mkfifo(path, 0o600)
        log = await reload(daemon, "not reloaded, nothing changed: ")
        assert f"{path}: " in log
        assert "not a regular file" in log
        kept.replace(path)
    await reload(daemon)


async def test_changed_limits_and_suite_apply_without_a_restart(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    edit(daemon, {"key": {"suite": "WDM_WITH_NULL_SHA256"}, "limits": {"connections": 60000}})
    log = await reload(daemon)
    assert '[key] suite changed from "PSK_CHACHA20_POLY1305" to "WDM_WITH_NULL_SHA256"' in log
    await daemon.call("Rekey")
    deadline = time.monotonic() + 5
    while "WDM_WITH_NULL_SHA256" not in {key["suite"] for key in (await status_of(daemon))["keys"]}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.root
async def test_socket_keeps_its_group_if_the_kernel_refuses_the_new_one(loopback: Loopback) -> None:
    # In a user namespace of its own there is no group but that of root (user_namespaces(7)).
    prefix = (*DIES_WITH_US, "unshare", "--user", "--map-root-user", "--")
    daemon = loopback.daemon("n1", {"handoff": {"groups": ["root"]}}, prefix)
    daemon.start()
    await Group([daemon]).together(10)
    edit(daemon, {"handoff": {"groups": ["daemon"]}, "node": {"priority": 7}})
    log = await reload(daemon, "reloaded: [node] priority changed from 100 to 7")
    assert f"{daemon.keys_socket}: cannot be given to group " in log
    assert "Invalid argument; it stays with its former group" in log
    assert daemon.keys_socket.stat().st_gid == 0
    assert (await status_of(daemon))["node"]["priority"] == 7


_FETCH = """
import socket, sys
with socket.socket(socket.AF_UNIX) as keys:
    keys.connect(sys.argv[1])
    keys.sendall(bytes([1, 2, 0, 1, 0]))
    received = keys.makefile("rb")
    while head := received.read(4):
        print(head[1], flush=True)
        received.read(int.from_bytes(head[2:]))
"""


@pytest.mark.root
async def test_reload_disconnects_a_user_that_may_no_longer_fetch_keys(loopback: Loopback) -> None:
    loopback.directory.chmod(0o755)
    daemon = await one_daemon(loopback, {"handoff": {"users": [USER], "groups": []}})
    daemon.directory.chmod(0o755)
    assert stat.S_IMODE(daemon.keys_socket.stat().st_mode) == 0o666
    fetch = [*as_ordinary_user(), sys.executable, "-c", _FETCH, str(daemon.keys_socket)]
    watching = await asyncio.create_subprocess_exec(*fetch, stdout=subprocess.PIPE)
    assert watching.stdout is not None
    assert await asyncio.wait_for(watching.stdout.readline(), 10) == b"3\n"
    edit(daemon, {"handoff": {"users": []}})
    await reload(daemon)
    assert await asyncio.wait_for(watching.stdout.read(), 10) == b"31\n"
    assert await watching.wait() == 0
    assert stat.S_IMODE(daemon.keys_socket.stat().st_mode) == 0o660
    assert (await status_of(daemon))["sessions"] == []
    again = await asyncio.create_subprocess_exec(*fetch, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = await again.communicate()
    assert b"PermissionError" in errors
    edit(daemon, {"handoff": {"users": [USER]}})
    await reload(daemon)
    back = await asyncio.create_subprocess_exec(*fetch, stdout=subprocess.PIPE)
    assert back.stdout is not None
    assert await asyncio.wait_for(back.stdout.readline(), 10) == b"3\n"
    back.kill()
    await back.wait()
