"""The tool `mcastpeer`, as a user starts it."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pskkey.model import KeyEntry
from tests.mcast.key_daemon import key_daemon
from tests.mcast.namespace import ip, multicast_namespace
from tests.mcast.stalls import Stalls
from tests.mcast.vectors import group_key, key_state

TOOL = [sys.executable, "-m", "pskkey.tools.mcastpeer.mcastpeer"]
PEER_LINE = re.compile(r"Peer (\d+): Ret 0, Elapsed (\d+) ms, TX (\d+), RX (\d+)")


def run(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOOL, *arguments, "--port", str(port)], capture_output=True, text=True, timeout=60, check=False
    )


def peers_of(done: subprocess.CompletedProcess[str]) -> list[tuple[int, int, int, int]]:
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "Stopping peers"
    matches = [PEER_LINE.fullmatch(line) for line in lines]
    assert all(matches), done.stdout
    return [(int(m[1]), int(m[2]), int(m[3]), int(m[4])) for m in matches if m]


@pytest.mark.slow
def test_two_peers_for_ten_seconds_keep_the_clock(unused_udp_port: int) -> None:
    with Stalls.watched() as stalls:
        started = time.monotonic()
        peers = peers_of(run(unused_udp_port, "2", "--duration", "10"))
    # A peer reads its clock once, after its last sleep, so only a stall at that instant makes it late. The instant is
    # more than ten seconds after the start of the process: a stall that ended before has no effect.
    stalled = stalls.worst_since(started + 10) * 1000
    assert [number for number, *_ in peers] == [0, 1]
    for _, elapsed, sent, received in peers:
        assert 10_000 - 50 <= elapsed <= 10_000 + 50 + stalled
        assert abs(sent - 500) <= 2
        assert abs(received - 1000) <= 4


@pytest.mark.slow
def test_twenty_peers_for_ten_seconds_lose_nothing(unused_udp_port: int) -> None:
    done = run(unused_udp_port, "20", "--duration", "10", "--json")
    assert done.returncode == 0, done.stderr
    peers = json.loads(done.stdout)["peers"]
    total = sum(peer["sent"] for peer in peers)
    assert abs(total - 10_000) <= 40
    assert [(peer["received"], peer["lost"]) for peer in peers] == [(total, 0)] * 20


@pytest.mark.parametrize("suite", ["NULL_SHA256", "CHACHA20_POLY1305"])
def test_json_has_sent_received_lost_and_rate_of_each_peer(suite: str, unused_udp_port: int) -> None:
    arguments = (
        "4",
        "--suite",
        suite,
        "--json",
        "--duration",
        "1",
        "--rate",
        "100",
        "--size",
        "200",
        "--sender-id",
        "7",
    )
    result: dict[str, Any] = json.loads(run(unused_udp_port, *arguments).stdout)
    assert result["schema"] == 1
    assert [peer["peer"] for peer in result["peers"]] == [0, 1, 2, 3]
    for peer in result["peers"]:
        assert (peer["ret"], peer["sent"], peer["received"], peer["lost"]) == (0, 100, 400, 0)
        assert peer["elapsed_ms"] >= 1000
        assert peer["rate"] == pytest.approx(100_000 / peer["elapsed_ms"], rel=0.001)
        assert peer["receive_rate"] == pytest.approx(400_000 / peer["elapsed_ms"], rel=0.001)
        assert peer["senders"] == {str(sender): {"received": 100, "lost": 0} for sender in (7, 8, 9, 10)}


def test_ctrl_c_prints_the_result_and_a_terminal_shows_a_live_line(unused_udp_port: int) -> None:
    terminal, tool_end = pty.openpty()
    with subprocess.Popen(
        [*TOOL, "2", "--port", str(unused_udp_port)], stdout=subprocess.PIPE, stderr=tool_end
    ) as tool:
        shown = _read_until(terminal, b"lost 0")
        tool.send_signal(signal.SIGINT)
        output, _ = tool.communicate(timeout=10)
    os.close(tool_end)
    os.close(terminal)
    # The exact number depends on the load of the machine.
    live = re.search(rb"1 s  sent (\d+) \(\1/s\)  received (\d+) \(\2/s\)  lost 0", shown)
    assert live, shown
    assert 0 < int(live[2]) <= 2 * int(live[1]) <= 2 * 102
    done = subprocess.CompletedProcess(TOOL, tool.returncode, output.decode(), "")
    for _, elapsed, sent, received in peers_of(done):
        assert 900 < elapsed < 5000
        assert 0 < sent <= elapsed / 20 + 2
        assert received >= sent


def _read_until(terminal: int, wanted: bytes) -> bytes:
    shown = b""
    deadline = time.monotonic() + 10
    while wanted not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            shown += os.read(terminal, 4096)
    return shown


async def test_mcastpeer_with_the_key_of_the_daemon_is_one_peer(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    state = key_state(None, KeyEntry(3, group_key(3), send=True, unused=True))
    async with key_daemon(path, state, 42) as daemon:
        tool = await asyncio.create_subprocess_exec(
            *TOOL,
            *("--daemon", "--interface", "lo", "--port", str(unused_udp_port), "--duration", "1", "--json"),
            env={**os.environ, "PSKKEY_KEYS_SOCKET": str(path)},
            stdout=subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(tool.communicate(), 20)
        assert daemon.acknowledged == [[3]]
    [peer] = json.loads(output)["peers"]
    assert (peer["sent"], peer["received"], peer["lost"]) == (50, 50, 0)
    assert list(peer["senders"]) == ["42"]


async def test_peer_reports_that_it_may_not_send_and_when_it_may(tmp_path: Path, unused_udp_port: int) -> None:
    path = tmp_path / "keys.sock"
    async with key_daemon(path, key_state(None, KeyEntry(3, group_key(3), send=False, unused=True)), None) as daemon:
        tool = await asyncio.create_subprocess_exec(
            *TOOL, "--daemon", "--socket", path, "--interface", "lo", "--port", str(unused_udp_port),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert tool.stderr is not None
        reported = await asyncio.wait_for(tool.stderr.readline(), 20)
        assert reported == (
            b"mcastpeer: it only receives: the daemon leases it no sender id; "
            b"see the reason in `journalctl -u pskkeyd`\n"
        )
        daemon.lease(42)
        daemon.publish(key_state(None, KeyEntry(3, group_key(3), send=True)))
        assert await asyncio.wait_for(tool.stderr.readline(), 20) == b"mcastpeer: it sends and receives now\n"
        tool.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(tool.communicate(), 20)
    assert (tool.returncode, errors) == (0, b"")


def test_no_argument_prints_the_usage() -> None:
    done = subprocess.run(TOOL, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "usage: mcastpeer N" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["0"], 2, "1 to 256"),
        (["many"], 2, "1 to 256"),
        (["--json"], 2, "Give N"),
        (["2", "--rate", "0"], 2, "0.1 to 10000"),
        (["2", "--sender-id", "255"], 2, "do not fit"),
        (["3", "--daemon"], 2, "one peer"),
        (["--daemon", "--suite", "CCAB"], 2, "leave them out"),
        (["1", "--group", "10.0.0.1"], 1, "no multicast address"),
        (["1", "--interface", "nosuch0"], 1, "'nosuch0' is no interface of this host"),
        (["1", "--interface", "eth\udcff"], 1, "'eth\\udcff' is no interface of this host"),
        (["--daemon", "--interface", "nosuch0"], 1, "'nosuch0' is no interface of this host"),
        (["1", "--group", "ff02::1%nosuch0"], 1, "'nosuch0' is no interface of this host"),
        (["--daemon", "--group", "ff02::1"], 1, "ff02::1%eth0"),
        (["--daemon", "--interface", "lo", "--socket", "/nonexistent/keys.sock"], 1, "/nonexistent/keys.sock"),
    ],
)
def test_mistakes_get_one_sentence(arguments: list[str], code: int, message: str, unused_udp_port: int) -> None:
    done = run(unused_udp_port, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_group_with_a_zone_and_interface_by_any_name_work() -> None:
    with multicast_namespace() as name:
        for alternative in ("a" * 127, "usb"):
            ip("link", "property", "add", "dev", name, "altname", alternative)
        index = str(socket.if_nametoindex(name))
        for zone in (name, "a" * 127, "usb", index):
            for options in ([], ["--interface", "a" * 127], ["--interface", "fd77::1"]):
                done = run(12345, "2", "--duration", "0.2", "--group", f"ff12::1234%{zone}", *options)
                assert [received for *_, received in peers_of(done)] == [20, 20]


@pytest.mark.root
def test_zone_and_interface_that_differ_are_wrong_usage() -> None:
    with multicast_namespace() as name:
        done = run(12345, "2", "--group", f"ff02::1%{name}", "--interface", "lo")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == (
            f"mcastpeer: error: the zone of the group means the interface '{name}', and interface means 'lo'; "
            "leave one out"
        )


@pytest.mark.root
def test_interface_name_that_is_no_text_is_an_interface_like_others() -> None:
    with multicast_namespace() as name:
        ip("link", "set", name, "down")
        ip("link", "set", name, "name", b"eth\xff")
        ip("link", "set", b"eth\xff", "up")
        ip("address", "replace", "fd77::1/64", "dev", b"eth\xff", "nodad")
        for options in (["--interface", "eth\udcff"], ["--group", "ff12::1234%eth\udcff", "--json"]):
            done = run(12345, "2", "--duration", "0.2", *options)
            assert (done.returncode, done.stderr) == (0, "")
        done = run(12345, "1", "--interface", "nosuch0")
        assert done.returncode == 1
        assert done.stderr.endswith("it has lo, end0, eth\\udcff\n")
