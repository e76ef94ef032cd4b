"""Installs and removes a package of this tree on a host, and copies the tree itself to a host."""

import shutil
from pathlib import Path
from typing import Final

from tests.hosts.host import Host
from tests.quality.tracked import ROOT, tracked_files

NAME: Final = "pskkey"
_APT_WITHIN: Final = 120.0


def copy_source(host: Host, directory: str) -> None:
    """Copy the tracked files of this tree, with their local changes, to a directory of the host."""
    for path in tracked_files():
        target = host.root / directory.lstrip("/") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)


def version_of(package: Path) -> str:
    """Return the version of a package, from the name of its file (deb(5))."""
    return package.name.split("_")[1]


def install(host: Host, package: Path) -> str:
    """Install the package with apt, in place of any other version; return the output of apt."""
    place = f"/srv/{package.name}"
    host.copy(package, place)
    return host.run("apt-get", "install", "--yes", "--allow-downgrades", place, within=_APT_WITHIN).stdout


def remove(host: Host, *, purge: bool = False) -> None:
    """Remove the package with apt. `purge` removes its configuration too."""
    host.run("apt-get", "purge" if purge else "remove", "--yes", NAME, within=_APT_WITHIN)


def installed_version(host: Host) -> str | None:
    """Return the installed version, or None when only the configuration or nothing is there."""
    done = host.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", NAME, check=False)
    status, _, version = done.stdout.partition(" ")
    return version if done.returncode == 0 and status == "installed" else None
