"""A group of two builds: the last released package, and the one of this tree. Traffic runs all the time."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import released
from tests.hosts import package
from tests.hosts.group import Group, current_key, status, unit, wait_for_another_process, wait_until
from tests.hosts.host import Host
from tests.hosts.session_managers import traffic
from tests.lab.daemon import Status

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def released_deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the last release."""
    tree = released.unpack(tmp_path_factory.mktemp("released") / "pskkey")
    command = [tree / "packaging" / "build-deb", tree.parent]
    environment = {**os.environ, "PSKKEY_DEB_VERSION": released.VERSION}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def released_group(group: Group, released_deb: Path) -> Group:
    """A group of three hosts with the released package."""
    group.on_all(lambda host: package.install(host, released_deb))
    group.wait_until_settled()
    return group


def fingerprint(shown: Status) -> str:
    return str(current_key(shown)["fingerprint"])


def replace(group: Group, host: Host, deb: Path) -> None:
    """Install another package on a host, and check that only the end of a master makes another node master."""
    before, is_master = status(host), group.master is host
    package.install(host, deb)
    after = group.wait_until_settled()
    assert status(host)["node"]["version"] == version_shown(deb)
    assert after["term"] - before["term"] == is_master
    assert fingerprint(after) == fingerprint(before)


def rekey(group: Group) -> dict[str, Any]:
    """Replace the key of a group, and return the new one."""
    before = current_key(group.wait_until_settled())
    group.master.run("pskkeyctl", "rekey", "--wait")
    after = current_key(group.wait_until_settled())
    assert after["epoch"] == before["epoch"] + 1
    return after


def version_shown(deb: Path) -> str:
    """Return the version that a daemon of a package shows: without the part for Debian."""
    return package.version_of(deb).partition("+")[0]


def test_group_is_upgraded_and_downgraded_node_by_node(released_group: Group, released_deb: Path, deb: Path) -> None:
    """The laboratory has further orders."""
    group = released_group
    with traffic(group):
        one, other = group.clients
        for host in (one, group.master, other):
            replace(group, host, deb)
        replace(group, one, released_deb)
        replace(group, one, deb)
    assert {member["version"] for member in status(one)["members"]} == {version_shown(deb)}


@pytest.mark.parametrize("upgraded", ["the master", "a client"])
def test_group_of_two_builds_rekeys_and_replaces_its_master(released_group: Group, deb: Path, upgraded: str) -> None:
    group = released_group
    master, (one, _) = group.master, group.clients
    replace(group, master if upgraded == "the master" else one, deb)
    assert len({member["version"] for member in status(one)["members"]}) == 2
    with traffic(group):
        key = rekey(group)
        pid = unit(master, "MainPID")
        master.run("systemctl", "kill", "--signal=KILL", "pskkeyd")
        wait_for_another_process(master, pid, 10)
        shown = group.wait_until_settled()
        assert shown["node"]["name"] != master.name
        assert fingerprint(shown) == key["fingerprint"]
        rekey(group)
        group.master.run("pskkeyctl", "switchover", master.name, "--wait")
        assert group.wait_until_settled()["node"]["name"] == master.name
        rekey(group)


def test_node_alone_keeps_its_key_over_an_upgrade_and_a_downgrade(
    released_group: Group, released_deb: Path, deb: Path
) -> None:
    host, *others = released_group.hosts
    for other in others:
        other.run("systemctl", "stop", "pskkeyd")
    wait_until(lambda: status(host)["role"] == "master" and len(status(host)["members"]) == 1, 20, "it is alone")
    before = current_key(status(host))
    for replacement in (deb, released_deb, deb):
        package.install(host, replacement)
        wait_until(lambda: status(host)["role"] == "master", 20, "it is master again")
        after = current_key(status(host))
        assert (after["epoch"], after["fingerprint"]) == (before["epoch"], before["fingerprint"])
