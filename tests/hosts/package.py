"""A package of this tree on a host: what apt makes of it; and the tree itself."""

import shutil
from pathlib import Path
from typing import Final

from tests.hosts.host import Host
from tests.quality.tracked import ROOT, tracked_files

NAME: Final = "pskkey"
_APT_WITHIN: Final = 120.0


def copy_source(host: Host, directory: str) -> None:
    """Copy what git knows of this tree, as it lies here, to a directory of the host."""
    for path in tracked_files():
        target = host.root / directory.lstrip("/") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)


def version_of(package: Path) -> str:
    """Return the version of a package, as its file is named (deb(5))."""
    return package.name.split("_")[1]


def install(host: Host, package: Path) -> str:
    """Have apt install it, in place of whatever version is there; return what the operator sees."""
    place = f"/srv/{package.name}"
    host.copy(package, place)
    return host.run("apt-get", "install", "--yes", "--allow-downgrades", place, within=_APT_WITHIN).stdout


def remove(host: Host, *, purge: bool = False) -> None:
    """Have apt remove it, or purge it: with its configuration."""
    host.run("apt-get", "purge" if purge else "remove", "--yes", NAME, within=_APT_WITHIN)


def installed_version(host: Host) -> str | None:
    """Return the version that is installed; None: no version, though its configuration may be there."""
    done = host.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", NAME, check=False)
    status, _, version = done.stdout.partition(" ")
    return version if done.returncode == 0 and status == "installed" else None
