"""Two groups on the same devices: the template unit pskkeyd@.service beside pskkeyd.service."""

import json
from collections.abc import Iterator

import pytest

from tests.hosts.group import CONFIGURATION, Group, Status, current_key, status, wait_until
from tests.hosts.host import Host

pytestmark = pytest.mark.root

CONTROL = "/run/pskkey/second/control.sock"


@pytest.fixture
def second(group: Group) -> Iterator[list[Host]]:
    """Two hosts that may have a second group; after the test they have none."""
    hosts = list(group.hosts[:2])
    yield hosts
    for host in hosts:
        host.run("systemctl", "disable", "--now", "pskkeyd@second", check=False)
        host.run("rm", "-rf", "/etc/pskkey", "/etc/credstore/pskkey.second.psk")


def test_a_second_group_lives_beside_the_first(group: Group, second: list[Host]) -> None:
    first_key = current_key(status(group.master))
    configuration = group.hosts[0].read(CONFIGURATION)
    for old, new in (
        ('name = "default"', 'name = "second"'),
        ("port = 11111", "port = 22222"),
        ('file = "/etc/pskkey.psk"', 'file = "second.psk"'),
    ):
        assert old in configuration
        configuration = configuration.replace(old, new)
    second[0].run("rm", "-f", "/srv/second")
    second[0].run("pskkeyctl", "psk", "generate", "--output", "/srv/second")
    psk = second[0].read("/srv/second")
    for host in second:
        host.run("mkdir", "-p", "/etc/pskkey")
        host.write("/etc/pskkey/second.toml", configuration)
    # One of them has it in a file, the other as a credential.
    second[0].write("/etc/pskkey/second.psk", psk, mode="0600", owner="pskkey", group="pskkey")
    second[1].write("/etc/credstore/pskkey.second.psk", psk, mode="0600")
    for host in second:
        host.run("systemctl", "enable", "--now", "pskkeyd@second")
    wait_until(lambda: all(len(_status(host)["members"]) == 2 for host in second), 15, "the second group is together")

    fingerprints = {current_key(_status(host))["fingerprint"] for host in second}
    assert len(fingerprints) == 1
    assert first_key["fingerprint"] not in fingerprints
    assert current_key(group.wait_until_settled())["fingerprint"] == first_key["fingerprint"]
    assert {_status(host)["group"] for host in second} == {"second"}

    # A key that was rolled in one is not rolled in the other, and one that is stopped leaves the other alone.
    second[1].run("pskkeyctl", "--socket", CONTROL, "rekey", "--wait")
    assert {current_key(_status(host))["fingerprint"] for host in second}.isdisjoint(fingerprints)
    for host in second:
        host.run("systemctl", "stop", "pskkeyd@second")
    assert current_key(group.wait_until_settled())["fingerprint"] == first_key["fingerprint"]


def _status(host: Host) -> Status:
    shown: Status = json.loads(host.run("pskkeyctl", "--socket", CONTROL, "status", "--json", check=False).stdout)
    return shown
