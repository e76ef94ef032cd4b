"""Upgrade, removal and purge while a group runs."""

from pathlib import Path

import pytest

from tests.hosts import package
from tests.hosts.group import CONFIGURATION, PSK_FILE, Group, current_key, status, try_status, unit, wait_until
from tests.hosts.session_managers import traffic

pytestmark = pytest.mark.root


def test_an_upgrade_restarts_the_daemon_and_changes_neither_key_nor_configuration(
    group: Group, newer_deb: Path
) -> None:
    host = group.master
    configuration = host.read(CONFIGURATION).replace("priority = 100", "priority = 101")
    host.write(CONFIGURATION, configuration)
    host.run("systemctl", "restart", "pskkeyd")
    group.wait_until_settled()
    with traffic(group):
        before = current_key(status(host))
        pids = {other.name: unit(other, "MainPID") for other in group.hosts}
        for other in group.hosts:
            package.install(other, newer_deb)
            assert package.installed_version(other) == "9.9.9"
            assert unit(other, "ActiveState") == "active"
            assert unit(other, "MainPID") != pids[other.name]
            group.wait_until_settled()
        assert current_key(status(host))["fingerprint"] == before["fingerprint"]
    assert host.read(CONFIGURATION) == configuration
    assert status(host)["node"]["priority"] == 101
    assert host.read(PSK_FILE) == group.psk


def test_removal_stops_the_daemon_and_keeps_the_files_of_the_operator(group: Group) -> None:
    host = group.master
    package.remove(host)
    assert host.run("pgrep", "-x", "pskkeyd", check=False).returncode == 1
    assert not host.exists("/run/pskkey/keys.sock")
    assert not host.exists("/usr/bin/pskkeyd")
    assert host.read(PSK_FILE) == group.psk
    assert host.exists(CONFIGURATION)
    rest = [other for other in group.hosts if other is not host]
    wait_until(lambda: all(len(status(other)["members"]) == 2 for other in rest), 5, "the others list two")
    assert try_status(host) is None


def test_purge_leaves_no_file_and_no_unit(group: Group) -> None:
    host = group.clients[0]
    package.remove(host, purge=True)
    left = host.run(
        "find",
        "/",
        "-xdev",
        "(",
        "-path",
        "/proc",
        "-o",
        "-path",
        "/srv",
        ")",
        "-prune",
        "-o",
        "-iname",
        "*pskkey*",
        "-print",
    ).stdout
    assert [path for path in left.split() if "/journal/" not in path] == []
    assert host.run("systemctl", "list-unit-files", "--no-legend", "pskkey*", check=False).stdout == ""
    # systemd drops a unit without a file only when it is idle.
    wait_until(
        lambda: host.run("systemctl", "list-units", "--all", "--no-legend", "pskkey*", check=False).stdout == "",
        5,
        "no unit is left",
    )
    assert host.run("systemctl", "is-system-running", check=False).stdout.strip() == "running"
