"""Daemons and hosts that die, hang, stop and come back: the key stays, and session managers lose nothing."""

import signal
import time

import pytest

from tests.hosts.group import Group, current_key, status, unit, wait_until
from tests.hosts.session_managers import traffic

pytestmark = [pytest.mark.root, pytest.mark.slow]

WATCHDOG = 10.0
"""Seconds: `WatchdogSec=` of the unit."""


def test_session_managers_in_c_and_in_python_lose_nothing(group: Group) -> None:
    with traffic(group):
        group.hosts[0].run("pskkeyctl", "rekey", "--wait")


@pytest.mark.parametrize("role", ["master", "client"])
def test_a_daemon_that_is_killed_comes_back_with_its_key(group: Group, role: str) -> None:
    with traffic(group):
        host = group.master if role == "master" else group.clients[0]
        before, pid, restarts = status(host), unit(host, "MainPID"), int(unit(host, "NRestarts"))
        host.run("systemctl", "kill", "--signal=KILL", "pskkeyd")
        wait_until(lambda: int(unit(host, "NRestarts")) > restarts, 10, "systemd restarts it")
        wait_until(lambda: unit(host, "ActiveState") == "active", 10, "it is active again")
        assert unit(host, "MainPID") != pid
        # As soon as it listens it has the key: it did not have to ask for it.
        first = status(host)
        assert current_key(first)["fingerprint"] == current_key(before)["fingerprint"]
        after = group.wait_until_settled()
        assert current_key(after)["fingerprint"] == current_key(before)["fingerprint"]
        assert current_key(after)["epoch"] == current_key(before)["epoch"]


def test_a_daemon_that_is_restarted_keeps_the_key(group: Group) -> None:
    with traffic(group):
        host = group.clients[0]
        before = current_key(status(host))
        host.run("systemctl", "restart", "pskkeyd")
        assert current_key(status(host))["fingerprint"] == before["fingerprint"]
        assert current_key(group.wait_until_settled())["fingerprint"] == before["fingerprint"]


def test_a_group_that_is_killed_as_a_whole_keeps_the_key(group: Group) -> None:
    before = current_key(status(group.master))
    group.on_all(lambda host: host.run("systemctl", "kill", "--signal=KILL", "pskkeyd"))
    group.on_all(lambda host: wait_until(lambda: unit(host, "ActiveState") == "active", 10, "it is active again"))
    after = current_key(group.wait_until_settled())
    assert (after["epoch"], after["fingerprint"]) == (before["epoch"], before["fingerprint"])


def test_a_daemon_that_is_stuck_is_killed_by_the_watchdog(group: Group) -> None:
    with traffic(group):
        host = group.clients[0]
        before, restarts = current_key(status(host)), int(unit(host, "NRestarts"))
        host.run("kill", f"-{signal.SIGSTOP.name.removeprefix('SIG')}", unit(host, "MainPID"))
        begin = time.monotonic()
        wait_until(lambda: int(unit(host, "NRestarts")) > restarts, 2 * WATCHDOG, "the watchdog fires")
        assert time.monotonic() - begin > WATCHDOG / 2
        said = host.run("journalctl", "--unit=pskkeyd", "--boot", "--lines=50", "--output=cat").stdout
        assert "Watchdog timeout" in said
        assert current_key(group.wait_until_settled())["fingerprint"] == before["fingerprint"]


def test_a_master_that_is_stopped_hands_over(group: Group) -> None:
    with traffic(group):
        before, host = status(group.master), group.master
        rest = group.clients
        host.run("systemctl", "stop", "pskkeyd")
        assert unit(host, "Result") == "success"
        # When it has stopped there is a new master already.
        for other in rest:
            shown = status(other)
            assert shown["role"] in ("master", "client")
            assert shown["master"]["name"] != host.name
            assert shown["term"] > before["term"]
            assert current_key(shown)["fingerprint"] == current_key(before)["fingerprint"]
        assert not host.exists("/run/pskkey/keys.sock")
        host.run("systemctl", "start", "pskkeyd")
        group.wait_until_settled()


@pytest.mark.parametrize("role", ["master", "client"])
def test_a_host_that_is_rebooted_joins_again(group: Group, role: str) -> None:
    host = group.master if role == "master" else group.clients[0]
    before = status(host)
    host.reboot()
    assert unit(host, "ActiveState") == "active"
    after = group.wait_until_settled()
    assert current_key(after)["fingerprint"] == current_key(before)["fingerprint"]
    assert status(host)["node"] == before["node"]
    assert (after["node"]["name"] == host.name) is False
