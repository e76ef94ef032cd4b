"""Installation on a bare Debian 13, with each way to give the daemon a pre-shared key."""

import re
from pathlib import Path

import pytest

from tests.hosts import package
from tests.hosts.group import (
    ENCRYPTED_CREDENTIAL,
    PLAIN_CREDENTIAL,
    PSK_FILE,
    Group,
    unit,
    write_psk,
)
from tests.hosts.host import Host

pytestmark = pytest.mark.root

INSTALLS_WITHIN = 180.0
"""Seconds for the build and the installation of its dependencies."""


def test_package_without_psk_starts_no_daemon_and_prints_the_next_step(bare_host: Host, deb: Path) -> None:
    output = package.install(bare_host, deb)
    assert package.installed_version(bare_host) == package.version_of(deb)
    assert "pskkeyctl psk generate --output /etc/pskkey.psk" in output
    assert unit(bare_host, "ActiveState") == "inactive"
    assert unit(bare_host, "UnitFileState") == "enabled"

    # An operator may start the daemon without reading the instructions.
    start = bare_host.run("systemctl", "start", "pskkeyd", check=False)
    assert start.returncode != 0
    assert "Assertion failed" in start.stderr
    shown = bare_host.run("pskkeyctl", "status", check=False)
    assert shown.returncode == 3
    assert "is pskkeyd running?" in shown.stderr

    # At boot the daemon neither starts nor fails.
    bare_host.reboot()
    assert unit(bare_host, "ActiveState") == "inactive"


def test_steps_that_the_installation_prints_start_a_master(bare_host: Host, deb: Path) -> None:
    output = package.install(bare_host, deb)
    for line in (
        "pskkeyctl psk generate --output /etc/pskkey.psk",
        "chown pskkey /etc/pskkey.psk && systemctl start pskkeyd",
    ):
        assert line in output
        bare_host.run("sh", "-c", line)
    assert unit(bare_host, "ActiveState") == "active"
    bare_host.run("pskkeyctl", "check-config")
    bare_host.run("pskkeyctl", "wait", "--role", "master")
    shown = bare_host.run("pskkeyctl").stdout
    assert '● master in group "default", term 1' in shown
    assert re.search(rf"^  Node +{bare_host.name} ", shown, re.MULTILINE)

    # With the PSK file, the daemon starts at boot, and when the package is installed again.
    bare_host.reboot()
    bare_host.run("pskkeyctl", "wait", "--role", "master")
    package.remove(bare_host)
    package.install(bare_host, deb)
    bare_host.run("pskkeyctl", "wait", "--role", "master")


def test_install_script_of_the_source_tree_starts_a_master(bare_host: Host) -> None:
    bare_host.run("rm", "-rf", "/srv/checkout")
    package.copy_source(bare_host, "/srv/checkout")
    output = bare_host.run("/srv/checkout/packaging/install", "--new-psk", within=INSTALLS_WITHIN).stdout
    assert "Installing what the build takes" in output
    assert '● master in group "default", term 1' in output
    assert unit(bare_host, "ActiveState") == "active"
    bare_host.run("pskkeyctl", "check-config")


def test_the_psk_may_be_a_file_a_credential_or_an_encrypted_credential(group: Group) -> None:
    group.on_all(lambda host: host.run("systemctl", "stop", "pskkeyd"))
    in_file, in_credential, in_encrypted_credential = group.hosts
    in_file.run("rm", "-f", "/srv/other")
    in_file.run("pskkeyctl", "psk", "generate", "--output", "/srv/other")
    psk = in_file.read("/srv/other")
    assert psk != group.psk

    write_psk(in_file, psk)
    for host in (in_credential, in_encrypted_credential):
        host.run("rm", PSK_FILE)
    in_credential.write(PLAIN_CREDENTIAL, psk, mode="0600")
    in_encrypted_credential.run("systemd-creds", "encrypt", "--name=pskkey.psk", "-", ENCRYPTED_CREDENTIAL, given=psk)
    assert psk.split(":")[1].strip() not in in_encrypted_credential.read(ENCRYPTED_CREDENTIAL)

    group.on_all(lambda host: host.run("systemctl", "start", "pskkeyd"))
    # They are one group, so all three have the same PSK.
    assert len(group.wait_until_settled()["members"]) == 3
