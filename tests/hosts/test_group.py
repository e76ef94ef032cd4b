"""A running group, as its operators look at it."""

import json
import re
from typing import Any

import pytest

from tests.hosts.group import Group, current_key, status, unit
from tests.hosts.host import Host

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


def test_systemctl_says_what_a_node_is(group: Group) -> None:
    epoch = current_key(status(group.master))["epoch"]
    assert unit(group.master, "StatusText").startswith("Master of 3 nodes")
    for client in group.clients:
        assert unit(client, "StatusText").startswith(f"Client of {group.master.name}, ")
        assert unit(client, "StatusText").endswith(f"key epoch {epoch}")


def test_pskkeyctl_shows_it_to_people(group: Group) -> None:
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
        told = host.run("varlinkctl", "info", "/run/pskkey/control.sock").stdout
        assert "io.pskkey.Control" in told
        called = host.run("varlinkctl", "call", "/run/pskkey/control.sock", "io.pskkey.Control.GetStatus", "{}")
        shown = json.loads(called.stdout)
        assert shown["schema"] == 1
        assert shown["node"] == status(host)["node"]


def test_a_rekey_by_varlink_reaches_all(group: Group) -> None:
    before = current_key(status(group.master))
    group.clients[0].run("varlinkctl", "call", "/run/pskkey/control.sock", "io.pskkey.Control.Rekey", "{}")
    after = current_key(group.wait_until_settled(epoch=before["epoch"] + 1))
    assert after["fingerprint"] != before["fingerprint"]


def test_avahi_beside_us_sees_all_nodes(group: Group) -> None:
    ids = {shown["node"]["name"]: shown["node"]["id"] for shown in group.statuses()}
    host = group.clients[0]
    # It shares the mDNS port with us.
    assert host.run("systemctl", "is-active", "avahi-daemon").stdout.strip() == "active"
    lines = host.run("avahi-browse", "-rtp", "_pskkey._tcp").stdout.splitlines()
    found = [line.split(";") for line in lines if line.startswith("=")]
    assert {fields[3] for fields in found} == {f"pskkey-{identifier[:8]}" for identifier in ids.values()}
    for fields in found:
        assert fields[8] == "11111"
        txt = fields[9]
        name = next(name for name, identifier in ids.items() if f'"id={identifier}"' in txt)
        assert f'"name={name}"' in txt
        assert f'"role={"m" if name == group.master.name else "c"}"' in txt


def test_avahi_itself_goes_on(group: Group) -> None:
    first, second, _ = group.hosts
    assert second.address in first.run("avahi-resolve", "-4", "-n", f"{second.name}.local").stdout


def test_mcastpeer_tries_the_group(group: Group) -> None:
    results: dict[str, dict[str, Any]] = {}

    def try_out(host: Host) -> None:
        options = ("--daemon", "--duration", "2", "--json", "--interface", host.address)
        results[host.name] = json.loads(host.run("mcastpeer", *options).stdout)["peers"][0]

    group.on_all(try_out)
    for peer in results.values():
        assert peer["ret"] == 0
        assert peer["sent"] > 50
        assert len(peer["senders"]) == 3  # itself too
        assert peer["lost"] == 0
