"""`pskkeyd` as a process: how it starts, what it tells its service manager, and how it ends."""

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

TELL_WHAT_IS_NOT_BUILT = """
import atexit, os, pathlib


@atexit.register
def tell():
    from pskkey.wire.fields import Packet

    models = Packet.__subclasses__()
    waiting = [model.__name__ for model in models if not model.__pydantic_complete__]
    pathlib.Path(os.environ["TOLD"]).write_text(f"{len(models)} packets {' '.join(waiting)}")
"""
"""For a daemon's Python: says at its end how many models of packets there are, and which were never built."""

SHIPPED_CONFIG = Path(__file__).parents[2] / "etc" / "pskkey.toml"


def pskkeyd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which must come soon."""
    return subprocess.run(
        [PSKKEYD, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, **environment},
        check=False,
    )


async def started(daemon: Daemon, **environment: str) -> NotifySocket:
    """Start a daemon and wait until it says that it is ready."""
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
    ("table", "key", "value", "told"),
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
async def test_mistakes_are_told_before_anything_starts(
    loopback: Loopback, table: str, key: str, value: str, told: str, only_check: bool
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
    for part in ("pskkeyd: ", str(daemon.config), table, key, told):
        assert part in sentence
    assert not daemon.keys_socket.exists()


@pytest.mark.parametrize("only_check", [True, False])
async def test_a_psk_file_that_will_not_do_is_told_before_anything_starts(loopback: Loopback, only_check: bool) -> None:
    daemon = loopback.daemon("n1")
    good = loopback.psk.read_text()
    for content, mode, told in (
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
        assert told in sentence
        assert not daemon.keys_socket.exists()
        assert good.strip().partition(":")[2] not in done.stderr


async def test_it_takes_leave_when_it_is_asked_to_stop(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    name = f"{instance_name(daemon.id)}.{SERVICE_TYPE}"
    async with Browser(MULTICAST_INTERFACE) as browser:
        with await started(daemon):
            await Group([daemon]).together(10)
            await browser.until(name, present=True, within=5)
            assert daemon.keys_socket.is_socket()
            assert daemon.control_socket.is_socket()
            assert await daemon.stop() == 0
            # A record that nobody takes back stays for minutes.
            await browser.until(name, present=False, within=3)
    assert not daemon.keys_socket.exists()
    assert not daemon.control_socket.exists()
    assert "Traceback" not in daemon.log


async def test_an_address_of_another_machine_ends_the_start(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", {"network": {"addresses": ["192.0.2.1"]}})
    done = pskkeyd("--config", daemon.config)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("pskkeyd: 192.0.2.1 is not an address of this machine")
    assert "Traceback" not in done.stderr
    assert not daemon.keys_socket.exists()
    assert not daemon.control_socket.exists()


@pytest.mark.parametrize(("ip", "open_at"), [("both", ["127.0.0.1", "::1"]), ("v4", ["127.0.0.1"]), ("v6", ["::1"])])
async def test_the_key_server_listens_by_the_protocols_that_are_chosen(
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


async def test_a_second_daemon_leaves_the_first_ones_sockets_alone(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon):
        done = pskkeyd("--config", daemon.config)
        assert done.returncode == 2
        assert "another daemon listens there" in done.stderr
        assert await daemon.status() is not None


async def test_the_service_manager_is_told(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon, WATCHDOG_USEC="300000") as notify:
        # Ready means that one can connect.
        socket.create_connection((loopback.address(daemon), PORT), 1).close()
        with socket.socket(socket.AF_UNIX) as keys:
            keys.connect(str(daemon.keys_socket))
        await notify.until("STATUS=Master of 1 node, term 1, key epoch 1")
        told = []
        for _ in range(10):
            await notify.until("WATCHDOG=1", within=5)
            told.append(time.monotonic())
        assert statistics.median(after - before for before, after in pairwise(told)) < 0.3
        daemon.signal(signal.SIGTERM)
        await notify.until("STOPPING=1")
        assert await daemon.ended() == 0


async def test_a_hanging_daemon_starves_its_watchdog(loopback: Loopback) -> None:
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


async def test_a_service_manager_that_hangs_holds_nobody_up(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon, WATCHDOG_USEC="30000") as notify:
        notify.stop_reading()
        # Far longer than it takes to fill the socket's queue, of 10 messages or, with systemd, 512.
        for _ in range(60):
            assert await daemon.status() is not None, "the daemon waits for the service manager"
            await asyncio.sleep(0.1)


async def test_hang_up_reads_the_psk_file_again(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with await started(daemon):
        _, before = await Group([daemon]).together(10)
        added = loopback.psk.read_text() + f"spare:{os.urandom(32).hex()}\n"
        for content, told in ((added, "2 identities"), ("nonsense\n", "nothing changed"), (added, "2 identities")):
            loopback.psk.write_text(content)
            await reload(daemon, told)
        _, after = await Group([daemon]).together(10)
        for statuses in (before, after):
            status = statuses[daemon.name]
            assert status is not None
            assert (status["role"], status["term"]) == ("master", 1)
        assert await daemon.stop() == 0


@pytest.mark.root
async def test_it_runs_as_an_ordinary_user(loopback: Loopback) -> None:
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


async def test_a_wish_to_reload_before_it_has_loaded_does_not_end_it(loopback: Loopback) -> None:
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
    """Tell whether the process ignores or catches a signal (proc_pid_status(5))."""
    fields = dict(line.split(b":", 1) for line in daemon.proc("status").splitlines())
    return bool((int(fields[b"SigIgn"], 16) | int(fields[b"SigCgt"], 16)) >> (number - 1) & 1)


async def test_limits_that_cannot_fit_are_told(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", prefix=(*DIES_WITH_US, "prlimit", "--nofile=128:700", "--"))
    daemon.start()
    await until(daemon, "[limits] may need 1792 open files, but this process may have only 700")


async def test_models_of_all_packets_are_built_by_the_start(loopback: Loopback) -> None:
    """To build one takes as long as a hundred messages, and somebody would have to wait for it."""
    watcher = loopback.directory / "sitecustomize.py"
    told = loopback.directory / "not-built"
    watcher.write_text(TELL_WHAT_IS_NOT_BUILT)
    daemon = await one_daemon(loopback, environment={"PYTHONPATH": str(watcher.parent), "TOLD": str(told)})
    daemon.signal(signal.SIGTERM)
    await daemon.ended()
    count, _, *not_built = told.read_text().split()
    assert int(count) >= 8
    assert not_built == []
