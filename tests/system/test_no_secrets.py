"""No secret leaves a daemon by its log, its status, its arguments or a core dump."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.config.psk import generate_psk_line, load_psk
from pskkey.model import KeyState
from pskkey.wire.advert import advert_key
from tests.lab.daemon import PSKKEYD, Daemon, Tables
from tests.lab.group import Group
from tests.system.leaks import PIECE, forms, leaks
from tests.system.loopback import PORT, Loopback
from tests.system.notify_socket import NotifySocket
from tests.system.ordinary_user import UID, USER, as_ordinary_user
from tests.system.reloading import reload


@pytest.mark.parametrize(("form", "printed"), list(forms(bytes(range(0xF0, 0xF0 + PIECE)))))
def test_search_finds_a_secret_in_each_form(form: str, printed: bytes) -> None:
    secret = b"\1\2\3\4" + bytes(range(0xF0, 0xF0 + PIECE)) + b"\5\6"
    assert leaks({"it": secret}, {"a log": b"x" + printed + b"y"}), form
    assert not leaks({"it": os.urandom(64)}, {"a log": b"x" + printed + b"y"})


@pytest.mark.slow
async def test_no_output_of_a_daemon_holds_a_secret(loopback: Loopback) -> None:
    # Their times are long, so that no daemon is lost on a machine that is busy with other tests.
    tables: Tables = {"log": {"level": "debug"}, "election": {"dead_after": 30}}
    daemons = [loopback.daemon(name, tables) for name in ("n1", "n2", "n3")]
    group = Group(daemons)
    secrets = psk_secrets("the PSK", loopback.psk)
    printed: dict[str, bytes] = {}
    with NotifySocket(loopback.directory / "notify") as notify:
        for daemon in daemons:
            daemon.start(notify.environment)
        _, statuses = await group.together(15)
        for daemon in daemons:
            secrets |= key_secrets(await key_state(daemon))
        secrets |= psk_secrets("the stranger's PSK", await fail_to_enter(loopback, daemons[0]))
        secrets |= await read_a_spoilt_psk_file(loopback, daemons[0])
        await reload_with_keys_in_the_configuration(loopback, daemons[0])
        printed |= {f"pskkeyd {n}": out for n, out in refuse_configurations(loopback, daemons[0]).items()}
        printed |= look_at(daemons)
        (master,) = group.of(statuses, "master")
        master.signal(signal.SIGKILL)
        await master.ended()
        survivors = Group(daemon for daemon in daemons if daemon is not master)
        _, after = await survivors.together(15)
        for daemon in survivors.daemons:
            secrets |= key_secrets(await key_state(daemon))
        printed |= {f"{place}, later": shown for place, shown in look_at(survivors.daemons).items()}
        printed |= {
            f"the status of {name}": repr(status).encode() for name, status in (*statuses.items(), *after.items())
        }
        await survivors.stop()
        printed["the messages to the service manager"] = "\n".join(notify.heard).encode()
    printed |= {f"the log of {daemon.name}": daemon.log.encode() for daemon in daemons}
    assert all(printed.values()), [place for place, shown in printed.items() if not shown]
    everything = b"\n".join(printed.values())
    for happened in (b"we are master", b"joined master", b"lost master", b"not reloaded", b"STATUS=Master of 2 nodes"):
        assert happened in everything
    assert not leaks(secrets, printed)


def psk_secrets(name: str, path: Path) -> dict[str, bytes]:
    """Return the key of a PSK file and the signing key that is derived from it."""
    key = load_psk(path).active.key
    return {name: key.reveal(), f"the signing key of {name}": advert_key(key).reveal()}


def key_secrets(state: KeyState) -> dict[str, bytes]:
    """Return all parts of all keys."""
    assert state.entries
    secrets = {}
    for entry in state.entries:
        secrets[f"the PMS of epoch {entry.epoch}"] = entry.key.pms.reveal()
        secrets[f"the server random of epoch {entry.epoch}"] = entry.key.server_random
        secrets[f"the client random of epoch {entry.epoch}"] = entry.key.client_random
    return secrets


async def key_state(daemon: Daemon) -> KeyState:
    """Fetch the keys as a session manager does."""
    async with AsyncKeyWatcher(daemon.keys_socket, will_send=True) as watcher:
        return await watcher.wait(5)


async def fail_to_enter(loopback: Loopback, daemon: Daemon) -> Path:
    """Connect without a key, and with wrong keys of known and unknown identities; return the file of a wrong key."""
    address = loopback.address(daemon)
    for rubbish in (os.urandom(300), b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection((address, PORT), 5) as stranger:
            stranger.sendall(rubbish)
    wrong = loopback.directory / "wrong"
    wrong.touch(0o600)
    client = PSKKEYD.with_name("pskkey-client")
    for identity in ("unknown", "group"):
        wrong.write_text(generate_psk_line(identity) + "\n")
        returncode, output = finish(client, "--psk-file", wrong, "--port", str(PORT), address)
        assert returncode == 4, output
    deadline = time.monotonic() + 5
    while (status := await daemon.status()) is None or status["counters"]["handshakes_failed"] < 4:
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.05)
    return wrong


async def read_a_spoilt_psk_file(loopback: Loopback, daemon: Daemon) -> dict[str, bytes]:
    """Let a daemon read PSK files with mistakes in lines that hold keys; return those keys."""
    good = loopback.psk.read_text()
    secrets = {}
    for number, line in enumerate(("group {}\n", "group:{}0\n", "group:{0}\ngroup:{0}\n", "{}\n")):
        key = os.urandom(32)
        secrets[f"the key of spoilt file {number}"] = key
        loopback.psk.write_text(line.format(key.hex()))
        await reload(daemon, "not reloaded")
    loopback.psk.write_text(good)
    return secrets


def wrong_configurations(line: str) -> tuple[str, ...]:
    """Return configurations with a line of the PSK file in a wrong place."""
    return (
        f'[psk]\nkey = "{line}"\n',
        f"{line}\n",
        f"[network]\n{line.replace(':', ' = ')}\n",
        f'[node]\nid = "{line}"\n',
        f'[group]\nname = ["{line}"]\n',
    )


async def reload_with_keys_in_the_configuration(loopback: Loopback, daemon: Daemon) -> None:
    """Let a running daemon read configurations with the PSK in a wrong place, also as the name of the node.

    The master sends its name to all members, so a name that could be a key is refused.
    """
    good, key = daemon.config.read_text(), loopback.psk.read_text().strip().partition(":")[2]
    misplaced = good.replace("[node]\n", f'[node]\nname = "{key[:62]}"\n').replace(f'name = "{daemon.name}"\n', "")
    for text in (*wrong_configurations(loopback.psk.read_text().strip()), misplaced, good):
        daemon.config.write_text(text)
        await reload(daemon, "reloaded:" if text is good else "not reloaded")


def refuse_configurations(loopback: Loopback, daemon: Daemon) -> dict[str, bytes]:
    """Start a daemon with the PSK in wrong places of its configuration; return the output for each."""
    outputs = {}
    for number, text in enumerate(wrong_configurations(loopback.psk.read_text().strip())):
        config = daemon.directory / f"wrong{number}.toml"
        config.write_text(text)
        returncode, outputs[f"with wrong configuration {number}"] = finish(PSKKEYD, "--config", config)
        assert returncode == 2
    return outputs


def finish(*command: str | Path) -> tuple[int, bytes]:
    """Run a command to its end; return its exit code and all that it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
    return done.returncode, done.stdout


@contextmanager
def sleeping(*prefix: str) -> Iterator[int]:
    """Run sleep(1) behind a prefix during the block; yield its pid as soon as sleep runs."""
    with subprocess.Popen([*prefix, "sleep", "60"]) as process:
        try:
            deadline = time.monotonic() + 10
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                assert time.monotonic() < deadline, prefix
                time.sleep(0.01)
            yield process.pid
        finally:
            process.kill()


def look_at(daemons: list[Daemon]) -> Mapping[str, bytes]:
    """Return all data of running daemons that can be seen from outside."""
    shown = {}
    control = PSKKEYD.with_name("pskkeyctl")
    for daemon in daemons:
        for verb in (["status"], ["status", "--json"], ["members", "--json"], ["keys"], ["keys", "--json"]):
            returncode, output = finish(control, "--socket", daemon.control_socket, *verb)
            assert returncode == 0, output
            shown[f"pskkeyctl {' '.join(verb)} at {daemon.name}"] = output
        shown[f"the arguments of {daemon.name}"] = daemon.proc("cmdline")
        # Without root not even its own user may read this.
        if os.geteuid() == 0:
            shown[f"the environment of {daemon.name}"] = daemon.proc("environ")
    return shown


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
async def test_a_crash_leaves_no_core_dump(loopback: Loopback, number: signal.Signals) -> None:
    where = loopback.directory / "crash"
    where.mkdir()
    prefix = ("prlimit", f"--core={hard_core_limit()}", "env", "--chdir", str(where))
    if hard_core_limit() != "0":
        # An ordinary program leaves a core dump there, so this test would see one.
        with sleeping(*prefix) as pid:
            assert crash(pid, number) == os.CLD_DUMPED
        for core in where.iterdir():
            core.unlink()
    daemon = loopback.daemon("n1", prefix=prefix)
    daemon.start()
    await Group([daemon]).together(10)
    limits = daemon.proc("limits").decode()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
    assert crash(daemon.pid, number) == os.CLD_KILLED
    assert await daemon.ended() == -number
    assert not list(where.iterdir())


@pytest.mark.root
async def test_the_memory_is_closed_to_other_processes_of_its_user(loopback: Loopback) -> None:
    """In /proc a process that is not dumpable belongs to root, even if another user runs it (proc(5))."""
    loopback.directory.chmod(0o755)
    daemon = loopback.daemon("n1", prefix=as_ordinary_user())
    for path in (loopback.psk, daemon.directory, daemon.config):
        shutil.chown(path, USER)
    daemon.start()
    await Group([daemon]).together(15)
    memory = Path(f"/proc/{daemon.pid}/mem")
    assert owner(memory) == 0
    with sleeping(*as_ordinary_user()) as pid:
        assert owner(Path(f"/proc/{pid}/mem")) == UID
    returncode, output = finish(*as_ordinary_user(), "head", "-c1", memory)
    assert returncode != 0
    assert b"Permission denied" in output


def crash(pid: int, number: signal.Signals) -> int:
    """Send a signal that kills with a core dump; return how the process ended, `CLD_KILLED` or `CLD_DUMPED`."""
    os.kill(pid, number)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code


def hard_core_limit() -> str:
    """Return the highest limit for core dumps that we may set, in the words of prlimit(1)."""
    return "unlimited" if os.geteuid() == 0 else "0"


def owner(path: Path) -> int:
    """Return the user id that a file belongs to."""
    return path.stat().st_uid
