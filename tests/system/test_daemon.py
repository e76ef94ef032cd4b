"""`pskkeyd` as a process: its start, its reports to the service manager, and its end."""

import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from pskkey.wire.advert import SERVICE_TYPE, instance_name
from tests.keyserver.openssl import free_port
from tests.lab.daemon import PSKKEYD, Daemon
from tests.lab.group import Group
from tests.system.loopback import DIES_WITH_US, MULTICAST_INTERFACE, PORT, Loopback
from tests.system.mdns_browser import Browser
from tests.system.notify_socket import NotifySocket
from tests.system.ordinary_user import UID, USER, as_ordinary_user
from tests.system.reloading import reload, until
from tests.system.starting import one_daemon

REPORT_UNBUILT_MODELS = """
import atexit, os, pathlib


@atexit.register
def report():
    from pskkey.wire.fields import Packet

    models = Packet.__subclasses__()
    waiting = [model.__name__ for model in models if not model.__pydantic_complete__]
    pathlib.Path(os.environ["REPORT"]).write_text(f"{len(models)} packets {' '.join(waiting)}")
"""
"""Code for a daemon's Python. At its end it writes the number of packet models and the names of those not built."""

SHIPPED_CONFIG = Path(__file__).parents[2] / "etc" / "pskkey.toml"


def pskkeyd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pskkeyd to its end, for 20 s at most."""
    return subprocess.run(
        [PSKKEYD, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, **environment},
        check=False,
    )


async def started(daemon: Daemon, **environment: str) -> NotifySocket:
    """Start a daemon and wait until it reports that it is ready."""
    notify = NotifySocket(daemon.directory / "notify")
    daemon.start({**notify.environment, **environment})
    await notify.until("READY=1")
    return notify


async def test_the_configuration_can_be_checked(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    credential = daemon.directory / "pskkey.psk"
    credential.touch(0o600)
    credential.write_text(loopback.psk.read_text())
    for config, environment in (
        (daemon.config, {}),
        (SHIPPED_CONFIG, {"CREDENTIALS_DIRECTORY": str(daemon.directory)}),
    ):
        done = pskkeyd("--config", config, "--check-config", **environment)
        assert (done.returncode, done.stdout) == (0, f"{config}: ok\n"), done.stderr
    assert not daemon.control_socket.exists()


@pytest.mark.parametrize(
    ("table", "key", "value", "reason"),
    [
        ("node", "prioriti", "100", "there is no such key"),
        ("node", "priority", '"high"', "0 to 255"),
        ("node", "priority", "256", "0 to 255"),
        ("network", "port", "0", "1 to 65535"),
        ("election", "dead_after", "0.6", "twice heartbeat_interval"),
        ("key", "suite", '"AES"', "PSK_CHACHA20_POLY1305"),
    ],
)
@pytest.mark.parametrize("only_check", [True, False])
async def test_mistakes_in_the_configuration_are_reported_before_the_start(
    loopback: Loopback, table: str, key: str, value: str, reason: str, only_check: bool
) -> None:
    daemon = loopback.daemon("n1")
    lines = [line for line in daemon.config.read_text().splitlines() if not line.startswith(f"{key} =")]
    place = f"[{table}]"
    if place not in lines:
        lines.append(place)
    lines.insert(lines.index(place) + 1, f"{key} = {value}")
    daemon.config.write_text("\n".join(lines))
    done = pskkeyd("--config", daemon.config, *(["--check-config"] if only_check else []))
    assert done.returncode == 2
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    for part in ("pskkeyd: ", str(daemon.config), table, key, reason):
        assert part in sentence
    assert not daemon.keys_socket.exists()


@pytest.mark.parametrize("only_check", [True, False])
async def test_faults_of_the_psk_file_are_reported_before_the_start(loopback: Loopback, only_check: bool) -> None:
    daemon = loopback.daemon("n1")
    good = loopback.psk.read_text()
    for content, mode, reason in (
        (good, 0o644, "every user"),
        ("group:00112233\n", 0o600, "16 to 512"),
        ("group\n", 0o600, "identity:hexkey"),
        (None, 0o600, "cannot be opened: it does not exist; `pskkeyctl psk generate` makes one"),
    ):
        if content is None:
            loopback.psk.unlink()
        else:
            loopback.psk.write_text(content)
            loopback.psk.chmod(mode)
        done = pskkeyd("--config", daemon.config, *(["--check-config"] if only_check else []))
        assert (done.returncode, done.stdout) == (2, "")
        (sentence,) = done.stderr.splitlines()
        assert str(loopback.psk) in sentence
        assert reason in sentence
        assert not daemon.keys_socket.exists()
        assert good.strip().partition(":")[2] not in done.stderr


async def test_stopping_daemon_sends_a_goodbye_and_removes_its_sockets(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    name = f"{instance_name(daemon.id)}.{SERVICE_TYPE}"
    async with Browser(MULTICAST_INTERFACE) as browser:
        with await started(daemon):
            await Group([daemon]).together(10)
            await browser.until(name, present=True, within=5)
            assert daemon.keys_socket.is_socket()
            assert daemon.control_socket.is_socket()
            assert await daemon.stop() == 0
            # A record without a goodbye stays for minutes.
            await browser.until(name, present=False, within=3)
    assert not daemon.keys_socket.exists()
    assert not daemon.control_socket.exists()
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(("ip", "open_at"), [("both", ["127.0.0.1", "::1"]), ("v4", ["127.0.0.1"]), ("v6", ["::1"])])
async def test_key_server_listens_only_on_the_configured_ip_versions(
    loopback: Loopback, ip: str, open_at: list[str]
) -> None:
    port = free_port()
    daemon = loopback.daemon("n1", {"network": {"addresses": [], "port": port, "ip": ip}})
    await started(daemon)
    found = []
    for address in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((address, port), 1).close()
            found.append(address)
        except ConnectionRefusedError:
            pass
    assert found == open_at


async def test_second_daemon_does_not_touch_the_sockets_of_the_first(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon):
        done = pskkeyd("--config", daemon.config)
        assert done.returncode == 2
        assert "another daemon listens there" in done.stderr
        assert await daemon.status() is not None


async def test_daemon_reports_its_state_to_the_service_manager(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon, WATCHDOG_USEC="300000") as notify:
        # READY=1 means that clients can connect.
        socket.create_connection((loopback.address(daemon), PORT), 1).close()
        with socket.socket(socket.AF_UNIX) as keys:
            keys.connect(str(daemon.keys_socket))
        await notify.until("STATUS=Master of 1 node, term 1, key epoch 1")
        times = []
        for _ in range(10):
            await notify.until("WATCHDOG=1", within=5)
            times.append(time.monotonic())
        assert statistics.median(after - before for before, after in pairwise(times)) < 0.3
        daemon.signal(signal.SIGTERM)
        await notify.until("STOPPING=1")
        assert await daemon.ended() == 0


async def test_hanging_daemon_sends_no_watchdog_messages(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon, WATCHDOG_USEC="300000") as notify:
        await notify.until("WATCHDOG=1")
        daemon.signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)
        notify.pass_over()
        with pytest.raises(TimeoutError):
            await notify.until("WATCHDOG=1", within=0.5)
        daemon.signal(signal.SIGCONT)
        await notify.until("WATCHDOG=1", within=5)


async def test_daemon_does_not_wait_for_a_hanging_service_manager(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon, WATCHDOG_USEC="30000") as notify:
        notify.stop_reading()
        # This is far longer than the socket's queue takes to fill. It holds 10 messages, or 512 with systemd.
        for _ in range(60):
            assert await daemon.status() is not None, "the daemon waits for the service manager"
            await asyncio.sleep(0.1)


async def test_sighup_makes_the_daemon_read_the_psk_file_again(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon):
        _, before = await Group([daemon]).together(10)
        added = loopback.psk.read_text() + f"spare:{os.urandom(32).hex()}\n"
        for content, answer in ((added, "2 identities"), ("nonsense\n", "nothing changed"), (added, "2 identities")):
            loopback.psk.write_text(content)
            await reload(daemon, answer)
        _, after = await Group([daemon]).together(10)
        for statuses in (before, after):
            status = statuses[daemon.name]
            assert status is not None
            assert (status["role"], status["term"]) == ("master", 1)
        assert await daemon.stop() == 0


@pytest.mark.root
async def test_daemon_runs_as_an_ordinary_user(loopback: Loopback) -> None:
    loopback.directory.chmod(0o755)
    daemons = [loopback.daemon(name, prefix=as_ordinary_user()) for name in ("n1", "n2")]
    for path in (loopback.psk, *(path for daemon in daemons for path in (daemon.directory, daemon.config))):
        shutil.chown(path, USER)
    group = Group(daemons)
    group.start()
    _, statuses = await group.together(15)
    for daemon in daemons:
        assert f"\nUid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in daemon.proc("status").decode()
        assert daemon.keys_socket.stat().st_uid == UID
        assert statuses[daemon.name] is not None
        assert await daemon.stop() == 0
        assert not daemon.keys_socket.exists()


async def test_sighup_before_the_first_load_does_not_end_the_daemon(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    daemon.start()
    deadline = time.monotonic() + 5
    while not _ignores(daemon, signal.SIGHUP):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    daemon.signal(signal.SIGHUP)
    await until(daemon, "pskkeyd ")
    assert daemon.exit_code is None


def _ignores(daemon: Daemon, number: signal.Signals) -> bool:
    """Return whether the process ignores or catches a signal (proc_pid_status(5))."""
    fields = dict(line.split(b":", 1) for line in daemon.proc("status").splitlines())
    return bool((int(fields[b"SigIgn"], 16) | int(fields[b"SigCgt"], 16)) >> (number - 1) & 1)


async def test_limits_above_the_number_of_open_files_are_reported(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", prefix=(*DIES_WITH_US, "prlimit", "--nofile=128:700", "--"))
    daemon.start()
    await until(daemon, "[limits] may need 2688 open files, but this process may have only 700")


async def test_daemon_builds_the_models_of_all_packets_at_its_start(loopback: Loopback) -> None:
    """Building a model takes as long as a hundred messages, and a peer would have to wait for it."""
    watcher = loopback.directory / "sitecustomize.py"
    report = loopback.directory / "not-built"
    watcher.write_text(REPORT_UNBUILT_MODELS)
    daemon = await one_daemon(loopback, environment={"PYTHONPATH": str(watcher.parent), "REPORT": str(report)})
    daemon.signal(signal.SIGTERM)
    await daemon.ended()
    count, _, *not_built = report.read_text().split()
    assert int(count) >= 8
    assert not_built == []
