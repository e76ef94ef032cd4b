"""Debian 13 without a boot: commands run in a copy of a tree of `packaging/debian-13-tree`."""

import subprocess
from pathlib import Path
from typing import Final

from tests.quality.tracked import ROOT

_ENTER: Final = """
tree=$1 shared=$2; shift 2
mount -t tmpfs tmpfs "$tree/tmp"
mkdir "$tree/tmp/upper" "$tree/tmp/work" "$tree/tmp/seen"
mount -t overlay -o "lowerdir=$tree,upperdir=$tree/tmp/upper,workdir=$tree/tmp/work" overlay "$tree/tmp/seen"
mount -t proc proc "$tree/tmp/seen/proc"
mount --bind "$shared" "$tree/tmp/seen/mnt"
exec chroot "$tree/tmp/seen" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 sh -euc "$*"
"""


class DebianTree:
    """A Debian 13 system with some packages. Needs root, and a minute when it is made for the first time."""

    def __init__(self, *packages: str) -> None:
        made = subprocess.run(
            [ROOT / "packaging" / "debian-13-tree", *packages], capture_output=True, text=True, check=False, timeout=600
        )
        assert made.returncode == 0, made.stderr
        self._path = Path(made.stdout.strip())

    def run(self, script: str, shared: Path) -> str:
        """Run a shell script as root in a copy that is thrown away, with `shared` at /mnt; return its output.

        Fails when the script does.
        """
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _ENTER]
        done = subprocess.run(
            [*command, "sh", self._path, shared, script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout
