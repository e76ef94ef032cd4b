"""pskkeyctl as a process of its own, against the real control socket."""

import asyncio
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pskkey.config.psk import load_psk
from tests.adapters.local.other_user import acts_as_nobody, let_everybody_enter
from tests.tools.ctl.pskkeyctl_process import CLIENT, LISTENING, MASTER, Result, daemon, run, start


async def test_status_of_a_master(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER):
        result = await run("--socket", tmp_path / "c")
    assert result == Result(
        0,
        '● master in group "default", term 3\n'
        "  Node          pump-1 (5f3a0b12), priority 100, sender id 4\n"
        "  Master        this node\n"
        "  Previous key  epoch 6, 0f0f0f0f0f0f0f0f, PSK_CHACHA20_POLY1305, for 2 h\n"
        "  Key           epoch 7, a1a1a1a1a1a1a1a1, PSK_CHACHA20_POLY1305, for 12 s\n"
        "  Asked for     a new key in 12 s: a new receiver does not receive yet\n"
        "  Asked for     a new key now: a restarted sender may not send yet\n"
        "  Members       2, of which 1 not at epoch 7\n"
        "  Sessions      1, of which 1 to send\n"
        "  Trouble       handshakes failed: 2\n",
        "",
    )


async def test_status_of_a_client_names_its_master(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", CLIENT):
        result = await run("status", PSKKEY_CONTROL_SOCKET=str(tmp_path / "c"))
    assert result.code == 0
    assert "  Master        pump-2 (77aa0102) at fe80::2 port 4711\n" in result.output
    assert "Trouble" not in result.output


async def test_status_without_a_master_is_degraded(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", LISTENING):
        result, for_programs = await asyncio.gather(
            run("status", "--socket", tmp_path / "c"), run("--json", "status", "--socket", tmp_path / "c")
        )
    assert result.code == for_programs.code == 10
    assert result.output.startswith('● listening in group "default", term 3\n')
    assert "  Master    none yet\n  Key       none yet\n  Members   0\n  Sessions  none attached\n" in result.output


async def test_json_is_the_status_as_the_daemon_sent_it(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER):
        status, members, keys = await asyncio.gather(
            run("status", "--json", "--socket", tmp_path / "c"),
            run("--socket", tmp_path / "c", "--json", "members"),
            run("keys", "--socket", tmp_path / "c", "--json"),
        )
    assert json.loads(status.output) == MASTER
    head = {"schema": 1, "group": "default", "role": "master", "term": 3}
    assert json.loads(members.output) == {**head, "members": MASTER["members"]}
    assert json.loads(keys.output) == {**head, "keys": MASTER["keys"]}
    assert status.code == members.code == keys.code == 0


async def test_tables_of_members_and_keys(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER):
        members, keys = await asyncio.gather(
            run("members", "--socket", tmp_path / "c"), run("keys", "--socket", tmp_path / "c")
        )
    assert [re.split(r"  +", line) for line in members.output.splitlines()] == [
        ["", "NAME", "ID", "ROLE", "ADDRESS", "PRIORITY", "SENDER", "EPOCH"],
        ["*", "pump-1", "5f3a0b12", "master", "10.0.0.1", "100", "4", "7"],
        ["", "Pümpe?[31m", "77aa0102", "client", "-", "50, never master", "-", "6"],
    ]
    assert [re.split(r"  +", line) for line in keys.output.splitlines()] == [
        ["EPOCH", "STATE", "FINGERPRINT", "SUITE", "AGE"],
        ["6", "previous", "0f0f0f0f0f0f0f0f", "PSK_CHACHA20_POLY1305", "2 h"],
        ["7", "current", "a1a1a1a1a1a1a1a1", "PSK_CHACHA20_POLY1305", "12 s"],
    ]


async def test_ids_that_begin_alike_are_shown_with_more_digits(tmp_path: Path) -> None:
    one, other = "0" * 15 + "1", "0" * 15 + "2"
    nodes = {MASTER["members"][0]["id"]: one, MASTER["members"][1]["id"]: other}
    text = json.dumps(CLIENT)
    for former, alike in nodes.items():
        text = text.replace(former, alike)
    async with daemon(tmp_path / "c", json.loads(text)):
        status, members = await asyncio.gather(
            run("status", "--socket", tmp_path / "c"), run("members", "--socket", tmp_path / "c")
        )
    assert f"pump-1 ({one})" in status.output
    assert f"pump-2 ({other})" in status.output
    assert [re.split(r"  +", line)[2] for line in members.output.splitlines()] == ["ID", one, other]


@pytest.mark.parametrize(("extra", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
async def test_colour_only_on_a_terminal(tmp_path: Path, extra: dict[str, str], colour: bool) -> None:
    controller, terminal = pty.openpty()
    async with daemon(tmp_path / "c", MASTER):
        process = await start("--socket", tmp_path / "c", stdout=terminal, extra=extra)
        os.close(terminal)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    output = os.read(controller, 65536).decode()
    os.close(controller)
    assert ("\x1b[32m●\x1b[0m" in output) is colour
    assert ("\x1b" in output) is colour


@pytest.mark.parametrize("arguments", [["--no-such"], ["explode"], ["psk"], ["status", "--timeout", "-1"]])
async def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    result = await run(*arguments)
    assert result.code == 2
    assert "usage: pskkeyctl" in result.errors


async def test_no_daemon_is_unreachable(tmp_path: Path) -> None:
    result = await run("--socket", tmp_path / "none")
    assert result == Result(3, "", f"pskkeyctl: {tmp_path}/none: no daemon listens there; is pskkeyd running?\n")


@asynccontextmanager
async def stubborn(path: Path, answer: bytes) -> AsyncIterator[None]:
    """Run a server at the socket that is no proper daemon: it sends `answer`, or waits for ever if that is empty."""
    async with asyncio.TaskGroup() as connections:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\0")
            writer.write(answer)
            await (writer.drain() if answer else reader.read())
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        yield
        server.close()
        await connections.create_task(server.wait_closed())


async def test_silent_daemon_is_a_timeout(tmp_path: Path) -> None:
    async with stubborn(tmp_path / "c", b""):
        result = await run("--socket", tmp_path / "c", "--timeout", "0.2")
    assert result == Result(5, "", f"pskkeyctl: {tmp_path}/c: pskkeyd has not answered within 0.2 s\n")


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (b"rubbish\0", 1, "not a JSON object"),
        (b'{"parameters":{"schema":2}}\0', 1, "status has another version"),
        (b'{"parameters":{"schema":1}}\0', 1, "sent a malformed status: group is missing"),
        (b'{"error":"org.varlink.service.PermissionDenied"}\0', 4, "you may not do this; become root"),
        (
            b'{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"a.B"}}\0',
            1,
            "does not know GetStatus",
        ),
        (b'{"error":"a.b.NotPossible","parameters":{"reason":"no\\u001b[1m"}}\0', 1, r"c: no\x1b[1m"),
        (b'{"para', 3, "the daemon closed the connection"),
    ],
)
async def test_strange_answer_gets_one_sentence(tmp_path: Path, answer: bytes, code: int, sentence: str) -> None:
    async with stubborn(tmp_path / "c", answer):
        result = await run("--socket", tmp_path / "c")
    assert (result.code, result.output) == (code, "")
    assert sentence in result.errors
    assert len(result.errors.splitlines()) == 1


async def test_interrupt_ends_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c"))
        listener.listen()
        listener.setblocking(False)
        process = await start("--socket", tmp_path / "c", extra={})
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 20)
        process.send_signal(signal.SIGINT)
        output, errors = await asyncio.wait_for(process.communicate(), 20)
        connection.close()
    assert (process.returncode, output, errors) == (130, b"", b"")


async def test_reader_that_leaves_causes_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    async with daemon(tmp_path / "c", MASTER):
        process = await start("--socket", tmp_path / "c", stdout=writer, extra={})
        os.close(writer)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (-signal.SIGPIPE, b"")


@acts_as_nobody
async def test_socket_of_others_is_denied(tmp_path: Path) -> None:
    let_everybody_enter(tmp_path)
    # argparse imports two modules only when it needs them, and then the other user may not be able to read our Python.
    code = (
        "import locale, os, shutil, sys; from pskkey.tools.ctl.pskkeyctl import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main(sys.argv[1:]))"
    )
    async with daemon(tmp_path / "c", MASTER):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, "--socket", tmp_path / "c", stderr=subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 4
    assert errors.decode() == (f"pskkeyctl: {tmp_path}/c: permission denied; become root\n")


async def test_generated_key_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "new.psk"
    to_file, again, shown = [
        await run("psk", "generate", "--output", path),
        await run("psk", "generate", "--output", path),
        await run("psk", "generate", "--identity", "plant 7"),
    ]
    assert (to_file.code, to_file.output) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch("pskkey-[0-9a-f]{8}", load_psk(path).active.identity)
    assert (again.code, again.errors) == (
        1,
        f"pskkeyctl: {path}: exists already; remove it, or add a line to it by hand\n",
    )
    assert re.fullmatch("plant 7:[0-9a-f]{64}\n", shown.output)


async def test_check_config_reports_each_mistake(tmp_path: Path) -> None:
    psk, config = tmp_path / "my.psk", tmp_path / "my.toml"
    await run("psk", "generate", "--output", psk)
    config.write_text('[node]\nid = "0badcafe"\n[psk]\nfile = "my.psk"\n')
    good = await run("check-config", "--config", config)
    assert good == Result(0, f"node id: 0badcafe\npre-shared keys: 1 in {psk}\n{config}: ok\n", "")
    psk.chmod(0o644)
    readable = await run("check-config", "--config", config)
    assert readable.code == 1
    assert f"pskkeyctl: {psk}: the PSK file may be read" in readable.errors
    config.write_text("[node]\npriority = 300\n[tlss]\n")
    wrong = await run("check-config", "--config", config)
    assert wrong.code == 1
    assert re.findall(r"(?m)^pskkeyctl: \S+: (\[\w+\])", wrong.errors) == ["[node]", "[tlss]"]
