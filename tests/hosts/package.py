"""The Debian package of this tree, and what apt makes of it on a host."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.hosts.host import Host

NAME: Final = "pskkey"
_CHECKOUT: Final = Path(__file__).parents[2]
_BUILD: Final = _CHECKOUT / "packaging" / "build-deb"
_BUILD_WITHIN: Final = 600.0
_APT_WITHIN: Final = 120.0


def build(directory: Path, version: str | None = None) -> Path:
    """Build the package into `directory`, of its own version or as `version`, and return its path."""
    environ = dict(os.environ) if version is None else {**os.environ, "PSKKEY_DEB_VERSION": version}
    done = subprocess.run(
        [_BUILD, directory], check=False, capture_output=True, text=True, timeout=_BUILD_WITHIN, env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1])


def copy_source(host: Host, directory: str) -> None:
    """Copy what git knows of this tree, as it lies here, to a directory of the host."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_CHECKOUT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source = _CHECKOUT / name
        if source.exists():  # it may be deleted, and that not be committed
            target = host.root / directory.lstrip("/") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


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
