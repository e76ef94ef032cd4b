"""An auditor lists the failed authentications of a day with the query of the manual."""

import json
import re
import shlex
from typing import Any, Final

import pytest

from pskkey.config.psk import generate_psk_line
from tests.hosts.group import Group, write_psk
from tests.hosts.host import Host

pytestmark = pytest.mark.root

MANUAL: Final = "/usr/share/man/man8/pskkeyd.8.gz"
PORT: Final = 11111
CLIENT: Final = """
import socket, ssl, sys
source, port, version, identity, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
context.set_ciphers("ECDHE-PSK-CHACHA20-POLY1305")
context.set_psk_client_callback(lambda _: (identity, bytes.fromhex(key)))
with socket.create_connection(("127.0.0.1", int(port)), source_address=(source, 0)) as plain:
    try:
        context.wrap_socket(plain).recv(1)
    except OSError as error:
        sys.exit(f"no session: {error}")
"""
"""Connects from an address of this machine. It fails with "no session" if the server refuses it in the handshake."""


def queries(host: Host) -> list[list[str]]:
    """Return the command lines of the section AUDITING, from the manual page that the package has installed."""
    page = host.run("zcat", MANUAL).stdout
    (section,) = re.findall(r"^\.Sh AUDITING\n(.*?)(?=^\.Sh )", page, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for line in re.findall(r"^\.Dl (journalctl .*)$", section, re.MULTILINE)]


def ask_journal(host: Host, query: list[str]) -> list[dict[str, Any]]:
    host.run("journalctl", "--sync")
    return [json.loads(line) for line in host.run(*query).stdout.splitlines()]


def fail_to_authenticate(host: Host, source: str, version: str, identity: str, key: str) -> None:
    failed = host.run("python3", "-c", CLIENT, source, str(PORT), version, identity, key, check=False)
    assert (failed.returncode, "no session" in failed.stderr) == (1, True), failed.stderr


def test_query_of_the_manual_lists_the_failed_authentications_of_today(group: Group) -> None:
    master, client = group.master, group.clients[0]
    failed, key_requests = queries(master)
    identity, right = group.psk.strip().split(":")
    wrong = generate_psk_line("x").split(":")[1].strip()
    before = ask_journal(master, failed)
    attempts = {
        "127.0.0.21": ("TLSv1_3", identity, "wrong_key"),
        "127.0.0.22": ("TLSv1_3", "stranger", "unknown_identity"),
        "127.0.0.23": ("TLSv1_2", identity, "wrong_key"),
        "127.0.0.24": ("TLSv1_2", "stranger", "unknown_identity"),
    }
    for source, (version, offered, _) in attempts.items():
        fail_to_authenticate(master, source, version, offered, wrong)
    for _ in range(2):
        fail_to_authenticate(master, "127.0.0.24", "TLSv1_2", "stranger", wrong)
    write_psk(client, f"{identity}:{wrong}\n")
    assert client.run("pskkey-client", master.address, "--psk-file", "/etc/pskkey.psk", check=False).returncode != 0
    write_psk(client, group.psk)
    assert client.run("pskkey-client", master.address, "--psk-file", "/etc/pskkey.psk").returncode == 0

    at_once = ask_journal(master, failed)[len(before) :]
    assert [(entry["PSKKEY_ADDRESS"], entry["PSKKEY_IDENTITY"], entry["PSKKEY_CODE"]) for entry in at_once] == [
        *((source, offered, code) for source, (_, offered, code) in attempts.items()),
        (client.address, identity, "wrong_key"),
    ]
    assert {(entry["PSKKEY_DIRECTION"], entry["PSKKEY_COUNT"]) for entry in at_once} == {("in", "1")}
    assert all(int(entry["__REALTIME_TIMESTAMP"]) > 0 for entry in at_once)

    # An end of the daemon logs what was only counted until then.
    master.run("systemctl", "restart", "pskkeyd")
    later = ask_journal(master, failed)[len(before) + len(at_once) :]
    assert [(entry["PSKKEY_ADDRESS"], entry["PSKKEY_COUNT"]) for entry in later] == [("127.0.0.24", "2")]
    answered = master.run(*key_requests).stdout
    assert f"{client.address} got the group key by KEY_REQ" in answered
    assert right not in f"{before}{at_once}{later}{answered}"
    assert wrong not in f"{before}{at_once}{later}{answered}"


def test_nobody_else_can_add_an_entry_that_the_query_lists(group: Group) -> None:
    host = group.clients[0]
    failed, _ = queries(host)
    (message_id,) = [word for word in failed if word.startswith("MESSAGE_ID=")]
    before = ask_journal(host, failed)
    forged = f"{message_id}\nMESSAGE=forged\nPRIORITY=4\nSYSLOG_IDENTIFIER=pskkeyd\n"
    host.run("logger", "--journald", given=forged, user="nobody")
    assert "forged" in host.journal(message_id, "--boot")
    assert ask_journal(host, failed) == before
