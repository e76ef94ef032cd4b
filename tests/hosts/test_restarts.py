"""Daemons and hosts crash, hang, stop and restart. The key stays, and session managers lose no datagram."""

import time
from typing import Any

import pytest

from tests.hosts.group import DAEMON, Group, current_key, status, unit, wait_for_another_process, wait_until
from tests.hosts.host import Host
from tests.hosts.session_managers import traffic

pytestmark = [pytest.mark.root, pytest.mark.slow]

WATCHDOG = 10.0
"""Seconds: `WatchdogSec=` of the unit."""
BACK_WITHIN = 15.0
"""Seconds until systemd has restarted the daemon. Its delays are 1, 1.7, 2.8 and 4.6 s (`RestartSteps=`)."""


def test_session_managers_in_c_and_in_python_lose_nothing_in_a_rekey(group: Group) -> None:
    with traffic(group):
        group.hosts[0].run("pskkeyctl", "rekey", "--wait")


@pytest.mark.parametrize("role", ["master", "client"])
def test_a_daemon_that_is_killed_comes_back_with_its_key(group: Group, role: str) -> None:
    with traffic(group):
        host = group.master if role == "master" else group.clients[0]
        before, pid = current_key(status(host)), unit(host, "MainPID")
        host.run("systemctl", "kill", "--signal=KILL", "pskkeyd")
        wait_for_another_process(host, pid, BACK_WITHIN)
        # The daemon has the key as soon as it listens. It did not request it from the group.
        assert is_same_key(current_key(status(host)), before)
        assert is_same_key(current_key(group.wait_until_settled()), before)


def test_a_daemon_that_is_restarted_keeps_the_key(group: Group) -> None:
    with traffic(group):
        host = group.clients[0]
        before = current_key(status(host))
        host.run("systemctl", "restart", "pskkeyd")
        assert is_same_key(current_key(status(host)), before)
        assert is_same_key(current_key(group.wait_until_settled()), before)


def test_a_group_that_is_killed_as_a_whole_keeps_the_key(group: Group) -> None:
    with traffic(group):
        before = current_key(status(group.master))
        pids = {host: unit(host, "MainPID") for host in group.hosts}
        group.on_all(lambda host: host.run("systemctl", "kill", "--signal=KILL", "pskkeyd"))
        group.on_all(lambda host: wait_for_another_process(host, pids[host], BACK_WITHIN))
        assert is_same_key(current_key(group.wait_until_settled()), before)


def test_a_daemon_that_is_stuck_is_killed_by_the_watchdog(group: Group) -> None:
    with traffic(group):
        host = group.clients[0]
        before, pid = current_key(status(host)), unit(host, "MainPID")
        begin = time.monotonic()
        host.run("kill", "-STOP", pid)
        wait_for_another_process(host, pid, WATCHDOG + BACK_WITHIN)
        assert time.monotonic() - begin > WATCHDOG / 2
        assert "Watchdog timeout" in host.journal(*DAEMON, "--lines=50")
        assert is_same_key(current_key(group.wait_until_settled()), before)


def test_a_master_that_is_stopped_hands_over(group: Group) -> None:
    with traffic(group):
        host, rest = group.master, group.clients
        before = status(host)
        host.run("systemctl", "stop", "pskkeyd")
        # The master notified the successor before it stopped. The other client still has to join the successor.
        wait_until(lambda: not any(_is_led_by(host, other) for other in rest), 3, "the others have another master")
        for other in rest:
            shown = status(other)
            assert shown["term"] > before["term"]
            assert is_same_key(current_key(shown), current_key(before))
        handed_over = f"we are master of term {before['term'] + 1}: it was handed over to us"
        assert sum(handed_over in _journal_since_start(other) for other in rest) == 1
        assert unit(host, "Result") == "success"
        assert not host.exists("/run/pskkey/keys.sock")
        host.run("systemctl", "start", "pskkeyd")
        group.wait_until_settled()


def test_a_daemon_may_be_stopped_and_started_often(group: Group) -> None:
    host = group.clients[0]
    for _ in range(8):
        host.run("systemctl", "stop", "pskkeyd")
        host.run("systemctl", "start", "pskkeyd")
    assert unit(host, "ActiveState") == "active"


def test_a_connection_to_a_stopped_daemon_does_not_start_it(group: Group) -> None:
    host = group.clients[0]
    host.run("systemctl", "stop", "pskkeyd")
    assert host.run("pskkeyctl", "status", check=False).returncode == 3
    assert unit(host, "ActiveState") == "inactive"


def test_a_connection_during_a_restart_waits_for_the_daemon(group: Group) -> None:
    host = group.clients[0]
    pid = unit(host, "MainPID")
    host.run("systemctl", "kill", "--signal=KILL", "pskkeyd")
    # No process answers now, but the socket exists.
    wait_until(lambda: unit(host, "MainPID") != pid, 5, "it is dead")
    assert status(host)["node"]["name"] == host.name
    assert unit(host, "MainPID") not in ("0", pid)


@pytest.mark.parametrize("role", ["master", "client"])
def test_a_host_that_is_rebooted_joins_again(group: Group, role: str) -> None:
    host = group.master if role == "master" else group.clients[0]
    with traffic(group, without=host):
        before = status(host)
        host.reboot()
        assert unit(host, "ActiveState") == "active"
        after = group.wait_until_settled()
        assert current_key(after)["epoch"] >= current_key(before)["epoch"]
        assert status(host)["node"] == before["node"]
        assert status(host)["role"] == "client"


def _journal_since_start(host: Host) -> str:
    """Return the journal of this incarnation only: in the journal of the whole boot, a term may come twice."""
    return host.journal(f"_SYSTEMD_INVOCATION_ID={unit(host, 'InvocationID')}")


def _is_led_by(host: Host, other: Host) -> bool:
    """Whether `other` still has `host` as its master, or has no master."""
    master = status(other)["master"]
    return master is None or master["name"] == host.name


def is_same_key(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two keys of `pskkeyctl status` are the same."""
    return (one["epoch"], one["fingerprint"]) == (other["epoch"], other["fingerprint"])
