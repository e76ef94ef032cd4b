"""Control groups for hosts, one in each hierarchy that systemd uses (cgroups(7)).

These are the unified hierarchy and, if it exists, the one named systemd.
"""

import contextlib
from pathlib import Path

from tests.lab.cgroups import remove_cgroup
from tests.lab.namespaces import is_stale


def make_cgroups(name: str) -> list[Path]:
    """Make a control group of that name in each hierarchy. A process enters it when its pid is in `cgroup.procs`."""
    made = []
    for hierarchy in _hierarchies():
        cgroup = hierarchy / name
        cgroup.mkdir()
        made.append(cgroup)
    return made


def remove_stale_cgroups() -> None:
    """Remove the control groups that our dead processes left."""
    for hierarchy in _hierarchies():
        for cgroup in [path for path in hierarchy.iterdir() if is_stale(path.name)]:
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                remove_cgroup(cgroup)


def _hierarchies() -> list[Path]:
    """Return the mount points of the hierarchies (proc_mounts(5))."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(place))
    return found
