"""Changes to a running group: its configuration, and its pre-shared key."""

import pytest

from tests.hosts.group import CONFIGURATION, DAEMON, Group, current_key, status, unit, wait_until, write_psk
from tests.hosts.host import Host
from tests.hosts.session_managers import traffic

pytestmark = pytest.mark.root


def test_a_reload_applies_the_priority_and_reports_that_the_port_needs_a_restart(group: Group) -> None:
    host = group.clients[0]
    pid = unit(host, "MainPID")
    _change(host, "priority = 100", "priority = 42")
    _change(host, "port = 11111", "port = 22222")
    host.run("systemctl", "reload", "pskkeyd")
    assert status(host)["node"]["priority"] == 42
    entries = host.journal(*DAEMON).splitlines()
    assert any("[node] priority changed from 100 to 42" in line for line in entries)
    assert any("[network] port" in line and "takes effect at the next restart" in line for line in entries)
    assert unit(host, "MainPID") == pid
    wait_until(lambda: _priority_at_master(group, host) == 42, 5, "the master lists the new priority")


def test_a_reload_of_a_broken_file_changes_nothing(group: Group) -> None:
    host = group.clients[0]
    before, pid = status(host), unit(host, "MainPID")
    _change(host, "priority = 100", 'priority = "best"')
    assert host.run("systemctl", "reload", "pskkeyd", check=False).returncode != 0
    assert (unit(host, "MainPID"), unit(host, "ActiveState")) == (pid, "active")
    assert any(f"{CONFIGURATION}" in line and "priority" in line for line in host.journal(*DAEMON).splitlines())
    after = status(host)
    assert after["node"] == before["node"]
    assert current_key(after)["fingerprint"] == current_key(before)["fingerprint"]


def test_a_reload_without_the_psk_file_fails_and_changes_nothing(group: Group) -> None:
    host = group.clients[0]
    before, pid = status(host), unit(host, "MainPID")
    host.run("mv", "/etc/pskkey.psk", "/etc/pskkey.away")
    try:
        assert host.run("systemctl", "reload", "pskkeyd", check=False).returncode != 0
        assert any("does not exist" in line for line in host.journal(*DAEMON).splitlines())
    finally:
        host.run("mv", "/etc/pskkey.away", "/etc/pskkey.psk")
    assert (unit(host, "MainPID"), unit(host, "ActiveState")) == (pid, "active")
    assert status(host)["master"] == before["master"]
    host.run("systemctl", "reload", "pskkeyd")


def test_a_group_moves_to_a_new_psk_without_an_interruption(group: Group) -> None:
    first = group.hosts[0]
    first.run("rm", "-f", "/srv/new")
    first.run("pskkeyctl", "psk", "generate", "--identity", "second", "--output", "/srv/new")
    old, new = group.psk, first.read("/srv/new")
    with traffic(group):
        before = group.wait_until_settled()
        pids = {host.name: unit(host, "MainPID") for host in group.hosts}
        for psk in (old + new, new + old, new):
            for host in group.hosts:
                write_psk(host, psk)
                host.run("systemctl", "reload", "pskkeyd")
            after = group.wait_until_settled()
            assert (after["term"], after["master"]) == (before["term"], before["master"])
            assert current_key(after)["fingerprint"] == current_key(before)["fingerprint"]
        assert {host.name: unit(host, "MainPID") for host in group.hosts} == pids
        # A restart shows that the nodes can connect again with the new PSK.
        for host in group.clients:
            host.run("systemctl", "restart", "pskkeyd")
        group.wait_until_settled()
    # The old PSK gives no access any more.
    master, stranger = group.master, group.clients[0]
    write_psk(stranger, old)
    stranger.run("systemctl", "restart", "pskkeyd")
    stranger.run("pskkeyctl", "wait", "--role", "master")
    assert len(status(stranger)["members"]) == 1
    wait_until(lambda: len(status(master)["members"]) == 2, 5, "the master lists the stranger no more")


def _priority_at_master(group: Group, host: Host) -> int:
    by_name = {member["name"]: member for member in status(group.master)["members"]}
    priority: int = by_name[host.name]["priority"]
    return priority


def _change(host: Host, before: str, after: str) -> None:
    configuration = host.read(CONFIGURATION)
    assert before in configuration
    host.write(CONFIGURATION, configuration.replace(before, after))
