"""The lines and the JSON of `pskkeyctl doctor`, with reports of the daemon that the test chooses."""

import asyncio
import json
import os
import pty
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pskkey.config.psk import generate_psk_line
from pskkey.tools.ctl.doctor_finding import MAX_LINES, Finding, encode_findings, render_findings, shorten
from pskkey.tools.ctl.doctor_group import check_heard, check_other_conditions, check_settings
from pskkey.tools.ctl.instance import config_of, socket_of
from pskkey.tools.ctl.network_reading import HeardStatus, NetworkStatus
from pskkey.tools.ctl.status_reading import Status
from pskkey.tools.ctl.status_view import Painter
from tests.tools.ctl.pskkeyctl_process import LISTENING, MASTER, NETWORK, Result, daemon, run, start

OK: Final = Finding("mdns", True, "", "mDNS runs")
FAULT: Final = Finding("node", False, "ab" * 8, "v\x1b[31m does not answer", "see its journal")


def condition(kind: str, peer: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "peer": peer, "address": None, "text": f"a {kind}", "remedy": "mend it", "since_s": 3.0}


def status(values: dict[str, Any] = MASTER, *conditions: dict[str, Any]) -> Status:
    return Status.parse_untrusted({**values, "conditions": list(conditions)})


def heard(*rows: HeardStatus, of: Status) -> list[Finding]:
    return check_heard(of, NetworkStatus((), "both", 1, (), (), 0, rows))


def advert(kind: str, name: str = "valve", group: str = "default", source: str = "10.0.0.2") -> HeardStatus:
    return HeardStatus(kind, name, None, group, source, 1.0)


def configuration(directory: Path) -> Path:
    psk, config = directory / "psk", directory / "pskkey.toml"
    psk.touch(0o600)
    psk.write_text(generate_psk_line("group") + "\n")
    config.write_text(f'[node]\nid = "0badcafe"\n[psk]\nfile = "{psk}"\n[control]\nsocket = "{directory}/c"\n')
    return config


async def lines(directory: Path, *arguments: str) -> tuple[Result, Sequence[str]]:
    result = await run("doctor", "--config", configuration(directory), *arguments)
    return result, result.output.splitlines()


def test_each_line_begins_with_its_mark_and_a_fault_has_its_remedy() -> None:
    assert render_findings([OK, FAULT], Painter(colour=False)) == [
        "ok  mDNS runs",
        "!!  v?[31m does not answer; see its journal",
    ]
    good, fault = render_findings([OK, FAULT], Painter(colour=True))
    assert good == "\x1b[32mok\x1b[0m  mDNS runs"
    assert fault.startswith("\x1b[33m!!\x1b[0m  ")


def test_json_has_a_schema_and_each_part_of_a_finding() -> None:
    assert encode_findings([OK, FAULT]) == {
        "schema": 1,
        "checks": [
            {"check": "mdns", "ok": True, "subject": "", "text": "mDNS runs", "remedy": ""},
            {
                "check": "node",
                "ok": False,
                "subject": "ab" * 8,
                "text": "v\x1b[31m does not answer",
                "remedy": "see its journal",
            },
        ],
    }


def test_of_many_findings_the_faults_are_kept_and_the_others_are_counted() -> None:
    many = [OK] * (MAX_LINES + 5)
    *kept, counted = shorten([*many, FAULT], "hosts")
    assert kept == [FAULT, *many[: MAX_LINES - 1]]
    assert counted == Finding("mdns", True, "", "and 6 more hosts")
    assert shorten([OK, FAULT], "hosts") == [OK, FAULT]


def test_node_that_hears_nobody_is_a_fault_unless_it_has_members() -> None:
    (alone,) = heard(of=status(LISTENING))
    assert (alone.ok, alone.text) == (False, 'no other node of group "default" was heard in the last minute')
    assert "carries multicast to UDP port 5353" in alone.remedy
    (joined,) = heard(of=status())
    assert joined.ok
    (found,) = heard(advert("ours"), of=status(LISTENING))
    assert found.text == 'nodes of group "default" heard in the last minute: valve at 10.0.0.2'


def test_other_groups_are_one_line_for_each_host_and_each_other_psk_is_a_fault() -> None:
    rows = [advert("other_group", "a", "x"), advert("other_group", "b", "y"), advert("other_group", source="10.0.0.3")]
    alone, one, other, wrong = heard(*rows, advert("other_psk", "c"), of=status(LISTENING))
    assert alone.remedy.startswith("compare [group] name and the PSK with those of the hosts below; ")
    assert one == Finding("heard", True, "10.0.0.2", '10.0.0.2 (a, b) announces another group: "x", "y"')
    assert other.subject == "10.0.0.3"
    assert (wrong.ok, wrong.subject) == (False, "10.0.0.2")
    assert wrong.text == 'c at 10.0.0.2 announces our group "default", but with another PSK'


def test_many_hosts_of_strangers_are_counted() -> None:
    rows = [advert("other_group", source=f"10.0.1.{number}") for number in range(MAX_LINES + 9)]
    found = heard(*rows, of=status())
    assert (len(found), found[-1].text) == (1 + MAX_LINES + 1, "and 9 more hosts")


def test_times_and_suite_that_differ_are_faults_of_the_settings() -> None:
    assert [one.ok for one in check_settings(status(), "PSK_CHACHA20_POLY1305", "pskkeyd")] == [True]
    times, suite = check_settings(status(MASTER, condition("times_differ", "cd" * 8)), "PSK_NULL_SHA256", "pskkeyd@x")
    assert times == Finding("settings", False, "cd" * 8, "a times_differ", "mend it")
    assert (suite.ok, suite.remedy) == (False, "reload the daemon: systemctl reload pskkeyd@x")


def test_condition_is_shown_once() -> None:
    conditions = condition("member_unreachable", "ab" * 8), condition("too_busy"), condition("mdns_blocked")
    mdns = Finding("mdns", False, "", "a mdns_blocked", "mend it")
    busy = Finding("condition", False, "", "a too_busy", "mend it")
    assert check_other_conditions(status(MASTER, *conditions), [FAULT, mdns]) == [busy]
    elsewhere = FAULT._replace(subject="cd" * 8)
    assert len(check_other_conditions(status(MASTER, *conditions), [elsewhere, mdns])) == 2
    (calm,) = check_other_conditions(status(), [])
    assert calm.ok


async def test_exit_code_is_0_only_without_a_fault(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER, NETWORK):
        well, shown = await lines(tmp_path)
    assert (well.code, well.errors) == (0, "")
    assert all(line.startswith("ok  ") for line in shown)
    assert "ok  lo is used: mDNS from 127.0.0.1, announces no address of it" in shown
    assert "ok  the key server listens on TCP port 4711" in shown
    ill = {**MASTER, "conditions": [condition("nobody_eligible"), condition("no_key_server")]}
    async with daemon(tmp_path / "c", ill, NETWORK):
        fault, shown = await lines(tmp_path)
    assert fault.code == 1
    assert [line for line in shown if line.startswith("!!")] == [
        "!!  a no_key_server; mend it",
        "!!  a nobody_eligible; mend it",
    ]


async def test_json_of_a_run_has_a_known_check_in_each_row(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER, NETWORK):
        result, _ = await lines(tmp_path, "--json")
    found = json.loads(result.output)
    assert found["schema"] == 1
    assert {row["check"] for row in found["checks"]} == {
        "daemon", "configuration", "psk", "interface", "mdns", "key_server", "heard", "settings", "condition",
    }  # fmt: skip
    assert all(set(row) == {"check", "ok", "subject", "text", "remedy"} for row in found["checks"])


async def test_daemon_without_the_method_is_to_be_restarted(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER):
        result, shown = await lines(tmp_path)
    assert result.code == 1
    (fault,) = (line for line in shown if line.startswith("!!"))
    assert fault.endswith("this pskkeyd does not know GetNetwork; restart it: systemctl restart pskkeyd")


@pytest.mark.parametrize("wrong", [{"schema": 2}, {"peers": [{"id": 1}]}, {"port": "x"}])
async def test_malformed_network_is_a_fault(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with daemon(tmp_path / "c", MASTER, {**NETWORK, **wrong}):
        result, shown = await lines(tmp_path)
    assert result.code == 1
    assert len([line for line in shown if line.startswith("!!")]) == 1


async def test_daemon_that_closes_the_connection_is_running(tmp_path: Path) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\0")
        writer.close()

    async with await asyncio.start_unix_server(close, tmp_path / "c"):
        result, shown = await lines(tmp_path)
    assert result.code == 1
    (fault,) = (line for line in shown if line.startswith("!!  ") and "connection" in line)
    assert "the daemon closed the connection; it has too many, or it is stopping; run this again" in fault
    assert "systemctl start" not in result.output
    assert "can run on" not in result.output  # it tries nothing that a running daemon has


async def test_socket_alone_of_an_unknown_daemon_is_not_compared_with_the_default_files(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", MASTER, NETWORK):
        result = await run("doctor", "--socket", tmp_path / "c")
    assert f"ok  the configuration of the daemon at {tmp_path}/c is not known" in result.output
    assert "pre-shared key" not in result.output


def test_files_of_an_instance_belong_together() -> None:
    for name in ("lamps", "a-b.c"):
        config, at_socket = Path(f"/etc/pskkey/{name}.toml"), Path(f"/run/pskkey/{name}/control.sock")
        assert (config_of(at_socket), socket_of(config)) == (config, at_socket)
    default = Path("/etc/pskkey.toml"), Path("/run/pskkey/control.sock")
    assert (config_of(default[1]), socket_of(default[0])) == default
    assert config_of(Path("/run/pskkey/lamps/keys.sock")) is config_of(Path("/tmp/control.sock")) is None
    assert socket_of(Path("/etc/pskkey/lamps.psk")) is socket_of(Path("/srv/pskkey.toml")) is None


async def test_no_line_has_the_key(tmp_path: Path) -> None:
    result, _ = await lines(tmp_path)
    key = (tmp_path / "psk").read_text().strip().partition(":")[2]
    assert key not in result.output + result.errors
    assert not re.search("[0-9a-f]{32}", result.output)


async def test_marks_are_coloured_only_on_a_terminal(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    process = await start("doctor", "--config", configuration(tmp_path), stdout=terminal, extra={})
    os.close(terminal)
    await process.communicate()
    output = os.read(controller, 65536).decode()
    os.close(controller)
    assert "\x1b[33m!!\x1b[0m  " in output
