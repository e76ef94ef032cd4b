"""A running group, seen with the tools of an operator."""

import json
import re
from functools import partial
from typing import Any, Final

import pytest

from tests.hosts.group import Group, current_key, status, unit, wait_until
from tests.hosts.host import Host

ADVERTISED: Final = ("id", "name", "role")
"""The entries of a node's TXT record that the test reads."""

pytestmark = pytest.mark.root


def test_one_master_and_two_clients(group: Group) -> None:
    statuses = group.statuses()
    assert sorted(shown["role"] for shown in statuses) == ["client", "client", "master"]
    assert len({current_key(shown)["fingerprint"] for shown in statuses}) == 1
    for host, shown in zip(group.hosts, statuses, strict=True):
        assert shown["node"]["name"] == host.name
        assert {member["name"] for member in shown["members"]} == {"host1", "host2", "host3"}
        assert {member["address"] for member in shown["members"]} == {other.address for other in group.hosts}
    assert len({shown["node"]["id"] for shown in statuses}) == 3


def test_systemctl_shows_the_role_of_a_node(group: Group) -> None:
    epoch = current_key(status(group.master))["epoch"]
    of_client = (f"Client of {group.master.name}, ", f"key epoch {epoch}")
    lines = {group.master: ("Master of 3 nodes", ""), **dict.fromkeys(group.clients, of_client)}
    for host, (begin, end) in lines.items():
        # The daemon sends this line to systemd separately, so it may be a little later than the control socket.
        wait_until(partial(_has_status_text, host, begin, end), 5, f"the status line of {host.name} is {begin}...{end}")


def _has_status_text(host: Host, begin: str, end: str) -> bool:
    text = unit(host, "StatusText")
    return text.startswith(begin) and text.endswith(end)


def test_pskkeyctl_shows_members_and_key(group: Group) -> None:
    key = current_key(status(group.master))
    for host in group.hosts:
        shown = host.run("pskkeyctl").stdout
        assert re.search(r"^  Members +3$", shown, re.MULTILINE)
        assert f"epoch {key['epoch']}, {key['fingerprint']}, PSK_CHACHA20_POLY1305" in shown
        members = host.run("pskkeyctl", "members").stdout.splitlines()[1:]
        assert len(members) == 3
        assert [line for line in members if line.startswith("*")] == [line for line in members if host.name in line]
        assert key["fingerprint"] in host.run("pskkeyctl", "keys").stdout


def test_the_control_socket_speaks_varlink(group: Group) -> None:
    for host in group.hosts:
        described = host.run("varlinkctl", "introspect", "unix:/run/pskkey/control.sock", "io.pskkey.Control").stdout
        assert "interface io.pskkey.Control" in described
        assert "method GetStatus() ->" in described
        info = host.run("varlinkctl", "info", "/run/pskkey/control.sock").stdout
        assert "io.pskkey.Control" in info
        called = host.run("varlinkctl", "call", "/run/pskkey/control.sock", "io.pskkey.Control.GetStatus", "{}")
        shown = json.loads(called.stdout)
        assert shown["schema"] == 1
        assert shown["node"] == status(host)["node"]


def test_a_rekey_by_varlink_reaches_all(group: Group) -> None:
    before = current_key(status(group.master))
    group.clients[0].run("varlinkctl", "call", "/run/pskkey/control.sock", "io.pskkey.Control.Rekey", "{}")
    after = current_key(group.wait_until_settled(epoch=before["epoch"] + 1))
    assert after["fingerprint"] != before["fingerprint"]


def test_avahi_on_the_same_host_finds_all_nodes(group: Group) -> None:
    ids = {shown["node"]["name"]: shown["node"]["id"] for shown in group.statuses()}
    host = group.clients[0]
    # Avahi shares the mDNS port with pskkeyd.
    assert host.run("systemctl", "is-active", "avahi-daemon").stdout.strip() == "active"
    master = group.master.name
    # A node that joins does not announce that. So Avahi shows the last role that it has announced.
    roles = {name: ("m",) if name == master else ("c", "l", "j") for name in ids}
    expected = {
        (f"pskkey-{id_}", "11111", f'"id={id_}"', f'"name={name}"', f'"role={role}"')
        for name, id_ in ids.items()
        for role in roles[name]
    }
    wait_until(lambda: len(shown := _advertised(host)) == len(ids) and shown <= expected, 15, f"Avahi shows {expected}")


def _advertised(host: Host) -> set[tuple[str, ...]]:
    """Return the nodes that Avahi shows now: instance, port, and id, name and role from the TXT record."""
    lines = host.run("avahi-browse", "-rtp", "_pskkey._tcp").stdout.splitlines()
    found = [line.split(";") for line in lines if line.startswith("=")]
    return {
        (fields[3], fields[8], *(next(iter(re.findall(f'"{name}=[^"]*"', fields[9])), "") for name in ADVERTISED))
        for fields in found
    }


def test_avahi_still_resolves_host_names(group: Group) -> None:
    first, second, _ = group.hosts
    resolve = ("avahi-resolve", "-4", "-n", f"{second.name}.local")
    wait_until(lambda: second.address in first.run(*resolve, check=False).stdout, 15, "Avahi finds another host")


def test_mcastpeer_receives_from_all_members(group: Group) -> None:
    results: dict[str, dict[str, Any]] = {}

    def try_out(host: Host) -> None:
        # Long enough that all three send at the same time, even when one begins late.
        options = ("--daemon", "--duration", "6", "--json", "--interface", host.address)
        results[host.name] = json.loads(host.run("mcastpeer", *options).stdout)["peers"][0]

    group.on_all(try_out)
    for peer in results.values():
        assert peer["ret"] == 0
        assert peer["sent"] > 50
        assert len(peer["senders"]) == 3  # its own id too
        assert peer["lost"] == 0
