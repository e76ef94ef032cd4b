"""Two groups on the same devices: the template unit pskkeyd@.service beside pskkeyd.service."""

from collections.abc import Iterator

import pytest

from tests.hosts.group import CONFIGURATION, Group, current_key, status, try_status, wait_until, why_unsettled
from tests.hosts.host import Host
from tests.lab.daemon import Status

pytestmark = pytest.mark.root

CONTROL = "/run/pskkey/second/control.sock"
CREDENTIALS = ("/etc/credstore/pskkey.second.psk", "/etc/credstore.encrypted/pskkey.second.psk")


@pytest.fixture
def second(group: Group) -> Iterator[list[Host]]:
    """Three hosts for a second group. The group is removed after the test."""
    hosts = list(group.hosts[:3])
    yield hosts
    for host in hosts:
        host.run("systemctl", "disable", "--now", "pskkeyd@second", check=False)
        host.run("rm", "-f", "/etc/pskkey/second.toml", "/etc/pskkey/second.psk", *CREDENTIALS)


def test_a_second_group_runs_beside_the_first(group: Group, second: list[Host]) -> None:
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
        host.write("/etc/pskkey/second.toml", configuration)
    # The first host has the PSK in a file, the second as a credential, the third as an encrypted credential. The
    # encryption includes the credential name that the daemon reads.
    second[0].write("/etc/pskkey/second.psk", psk, mode="0600", owner="pskkey", group="pskkey")
    plain, encrypted = CREDENTIALS
    second[1].write(plain, psk, mode="0600")
    second[2].run("mkdir", "-p", "/etc/credstore.encrypted")
    second[2].run("systemd-creds", "encrypt", "--name=pskkey.psk", "-", encrypted, given=psk)
    for host in second:
        host.run("systemctl", "enable", "--now", "pskkeyd@second")
    _wait_until_together(second)

    fingerprints = {current_key(_status(host))["fingerprint"] for host in second}
    assert len(fingerprints) == 1
    assert first_key["fingerprint"] not in fingerprints
    assert current_key(group.wait_until_settled())["fingerprint"] == first_key["fingerprint"]
    assert {_status(host)["group"] for host in second} == {"second"}

    # The next step that the command prints names this group's service.
    next_psk = second[0].run("pskkeyctl", "psk", "generate").stdout
    shown = (
        second[0].run("sh", "-c", "pskkeyctl psk add - --config /etc/pskkey/second.toml 2>&1", given=next_psk).stdout
    )
    assert "now `systemctl reload pskkeyd@second`" in shown
    second[0].run("systemctl", "reload", "pskkeyd@second")

    # A rekey of one group does not rekey the other, and a stop of one group does not affect the other.
    second[1].run("pskkeyctl", "--socket", CONTROL, "rekey", "--wait")
    _wait_until_together(second)
    assert {current_key(_status(host))["fingerprint"] for host in second}.isdisjoint(fingerprints)
    for host in second:
        host.run("systemctl", "stop", "pskkeyd@second")
    assert current_key(group.wait_until_settled())["fingerprint"] == first_key["fingerprint"]


def _wait_until_together(hosts: list[Host]) -> None:
    def together() -> bool:
        return why_unsettled({host.name: try_status(host, "--socket", CONTROL) for host in hosts}) is None

    wait_until(together, 15, "the second group is together")


def _status(host: Host) -> Status:
    return status(host, "--socket", CONTROL)
