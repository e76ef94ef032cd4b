"""The rights of local users: none outside the group `pskkey`, reading inside it, administration only as root."""

import pytest

from tests.hosts.group import Group, current_key, status
from tests.hosts.host import Host

pytestmark = pytest.mark.root

OUTSIDER, MEMBER = "outsider", "member"
KEY_WATCHER = """\
import pskkey
with pskkey.KeyWatcher() as watcher:
    print(*(entry.key.fingerprint for entry in watcher.wait(5).entries))
"""


@pytest.fixture
def host(group: Group) -> Host:
    """A host with a user outside and one inside the group `pskkey`."""
    chosen = group.clients[0]
    for user, options in ((OUTSIDER, ()), (MEMBER, ("--groups", "pskkey"))):
        if chosen.run("id", user, check=False).returncode != 0:
            chosen.run("useradd", "--no-create-home", *options, user)
    return chosen


def test_a_stranger_can_connect_to_neither_socket(host: Host) -> None:
    shown = host.run("pskkeyctl", "status", user=OUTSIDER, check=False)
    assert (shown.returncode, shown.stdout) == (4, "")
    assert "permission denied" in shown.stderr
    called = host.run(
        *("varlinkctl", "call", "/run/pskkey/control.sock", "io.pskkey.Control.GetStatus", "{}"),
        user=OUTSIDER,
        check=False,
    )
    assert (called.returncode, called.stdout) == (1, "")
    watched = host.run("python3", "-c", KEY_WATCHER, user=OUTSIDER, check=False)
    assert (watched.returncode, watched.stdout) == (1, "")
    for name in ("keys", "control"):
        connected = host.run("python3", "-c", _connect(name), user=OUTSIDER, check=False)
        assert "PermissionError" in connected.stderr


def test_a_member_reads_keys_and_status(host: Host) -> None:
    assert host.run("python3", "-c", _connect("keys"), user=MEMBER).returncode == 0
    assert host.run("pskkeyctl", "status", user=MEMBER).returncode == 0
    # Beside the current key there may be a previous one.
    fingerprints = host.run("python3", "-c", KEY_WATCHER, user=MEMBER).stdout.split()
    assert current_key(status(host))["fingerprint"] in fingerprints


@pytest.mark.parametrize("verb", ["rekey", "switchover"])
def test_a_member_does_not_administer(host: Host, verb: str) -> None:
    before = status(host)
    denied = host.run("pskkeyctl", verb, user=MEMBER, check=False)
    assert denied.returncode == 4, denied.stderr
    method = verb.capitalize()
    called = host.run(
        *("varlinkctl", "call", "/run/pskkey/control.sock", f"io.pskkey.Control.{method}", "{}"),
        user=MEMBER,
        check=False,
    )
    assert called.returncode == 1
    assert "PermissionDenied" in called.stderr
    # A permitted operation succeeds after the denied one. So the denied one was not just slow.
    host.run("pskkeyctl", "rekey", "--wait")
    after = status(host)
    assert current_key(after)["epoch"] == current_key(before)["epoch"] + 1
    assert (after["term"], after["master"]) == (before["term"], before["master"])


def test_nobody_but_the_daemon_reads_the_psk(host: Host) -> None:
    for user in (OUTSIDER, MEMBER):
        assert "Permission denied" in host.run("cat", "/etc/pskkey.psk", user=user, check=False).stderr


def _connect(name: str) -> str:
    return f"import socket; socket.socket(socket.AF_UNIX).connect('/run/pskkey/{name}.sock')"
