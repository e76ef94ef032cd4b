"""The Debian package is built in Debian 13, and lintian finds no fault in it."""

import subprocess
from pathlib import Path

import pytest

from tests.packaging.debian_package import build, try_build
from tests.quality.tracked import ROOT

pytestmark = pytest.mark.root


def field(package: Path, name: str) -> str:
    """Return a field of a built package."""
    command = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, which lintian has checked."""
    return build(tmp_path_factory.mktemp("package"), PSKKEY_LINTIAN="yes")


def test_lintian_finds_no_fault(package: Path) -> None:
    assert package.is_file()


def test_a_fault_that_lintian_finds_ends_the_build(tmp_path: Path) -> None:
    done = try_build(tmp_path, PSKKEY_LINTIAN="yes", PSKKEY_DEB_VERSION="0.1.0-1ubuntu1")
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_it_depends_on_debian_packages_at_the_versions_of_debian_13(package: Path) -> None:
    depends = {dependency.split()[0] for dependency in field(package, "Depends").split(", ")}
    assert depends == {
        "python3",
        "systemd",  # or another that makes the user
        "python3:any",
        "python3-cryptography",
        "python3-pydantic",
        "python3-sdnotify",
        "python3-zeroconf",
    }
    assert field(package, "Architecture") == "all"


def test_the_package_installs_each_file_in_its_place(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    names = {line.split()[5].removeprefix("./") for line in listed.splitlines()}
    pages = {f"usr/share/man/man{page.suffix[1:]}/{page.name}.gz" for page in (ROOT / "packaging" / "man").iterdir()}
    units = {f"usr/lib/systemd/system/{unit.name}" for unit in (ROOT / "systemd").iterdir()}
    assert names >= pages | units
    assert names >= {"etc/pskkey.toml", "usr/lib/sysusers.d/pskkey.conf", "usr/share/doc/pskkey/examples/group_keys.c"}
    assert not [name for name in names if "tests" in name or "__pycache__" in name]


def test_every_commit_is_newer_than_the_release(package: Path) -> None:
    version = field(package, "Version")
    assert subprocess.run(["dpkg", "--compare-versions", version, "ge", "0.1.0"], check=False).returncode == 0
