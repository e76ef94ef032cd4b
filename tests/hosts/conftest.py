"""Three booted hosts for all tests here, and the packages that are installed on them."""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import pytest

from tests.hosts import package
from tests.hosts.group import ENCRYPTED_CREDENTIAL, PLAIN_CREDENTIAL, Group
from tests.hosts.host import CommandFailed, Host
from tests.hosts.network import booted_hosts
from tests.packaging import debian_package

HERE: Final = Path(__file__).parent
ORDER: Final = ("test_install.py", "test_group.py", "test_access.py", "test_restarts.py", "test_removal.py")
"""The order of the test files. The files that are not named here run before the last one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the installation first and the purge last. Any order works, but in this one the tests seldom have to wait."""
    here = [item for item in items if item.path.is_relative_to(HERE)]
    here.sort(key=lambda item: ORDER.index(item.path.name) if item.path.name in ORDER else len(ORDER) - 1.5)
    order = iter(here)
    items[:] = [next(order) if item.path.is_relative_to(HERE) else item for item in items]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the journals of the daemons with a failure."""
    report = yield
    if report.failed and item.path.is_relative_to(HERE) and isinstance(item, pytest.Function):
        for host in cast("Sequence[Host]", item.funcargs.get("hosts", ())):
            try:
                journal = host.journal("--unit=pskkeyd", "--merge", "--lines=60", output="short-precise", check=False)
            except CommandFailed as error:  # the host hangs; the other tests must still report
                journal = str(error)
            report.sections.append((f"pskkeyd on {host.name}", journal))
    return report


@pytest.fixture(scope="session")
def hosts() -> Iterator[Sequence[Host]]:
    """Boot three hosts on one network."""
    with booted_hosts(3) as booted:
        yield booted


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree."""
    return debian_package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def newer_deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tree, packaged as a later version."""
    return debian_package.build(tmp_path_factory.mktemp("newer-deb"), PSKKEY_DEB_VERSION="9.9.9")


@pytest.fixture(scope="session")
def _group(hosts: Sequence[Host], deb: Path) -> Group:
    return Group(hosts, deb)


@pytest.fixture
def group(_group: Group) -> Group:
    """A group of one master and two clients that have its key."""
    _group.establish()
    return _group


@pytest.fixture
def bare_host(hosts: Sequence[Host]) -> Host:
    """A host without any trace of the package."""
    host = hosts[0]
    host.run("dpkg", "--purge", package.NAME)  # does nothing when the package is absent
    host.run("rm", "-rf", PLAIN_CREDENTIAL, ENCRYPTED_CREDENTIAL)
    return host
