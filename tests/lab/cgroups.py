"""Slow processors: each daemon in a control group of its own, which gets a share of one core (cgroups(7)).

Version 1 has `cpu.cfs_quota_us` and `cpu.cfs_period_us`, version 2 has `cpu.max`. A process may use the quota in each
period, in microseconds of processor time, and then stands still until the next period begins.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.namespaces import is_stale, own_label

PERIOD_US: Final = 10_000
"""The period. A device that is slow, and not standing still, would have none: the shorter, the better."""
LEAST_QUOTA_US: Final = 1_000
"""The kernel accepts no smaller quota, so a small share has a longer period."""
ENTER: Final = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"')
"""The prefix of a command line that shall run in a control group: its directory is the next argument."""
REMOVED_WITHIN: Final = 5.0
"""Seconds that the kernel may take to end the last process of a control group."""


class NoQuotas(Exception):
    """This machine cannot hold a process to a share of a core; the text states why and what to do."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The mounted hierarchy that has the controller `cpu`, and its version: 1 or 2."""

    root: Path
    version: int


class Quotas:
    """A control group for each daemon. All have one share, in percent of a core, while `are_held`."""

    def __init__(self, hierarchy: Hierarchy, parent: Path, percent: int) -> None:
        self._hierarchy = hierarchy
        self._parent = parent
        self.percent = percent
        self.are_held = False

    def enter(self, name: str) -> tuple[str, ...]:
        """Return the prefix of a command line that shall run in the control group `name`; make the group."""
        place = self._parent / name
        if not place.exists():
            place.mkdir()
            self._write(place)
        return (*ENTER, str(place))

    def hold(self) -> None:
        """Hold each daemon to its share from now on, also those that start later."""
        self._set(are_held=True)

    def release(self) -> None:
        """Let each daemon use the whole processor."""
        self._set(are_held=False)

    def _set(self, *, are_held: bool) -> None:
        self.are_held = are_held
        for place in self._parent.iterdir():
            if place.is_dir():
                self._write(place)

    def _write(self, place: Path) -> None:
        for name, content in limit_files(self._hierarchy.version, self.percent if self.are_held else None).items():
            (place / name).write_text(content)


def limit_files(version: int, percent: int | None) -> dict[str, str]:
    """Return the content of the files that hold a control group to `percent` of a core; None: to nothing."""
    quota, period = ("-1" if version == 1 else "max"), PERIOD_US
    if percent is not None:
        period = max(PERIOD_US, LEAST_QUOTA_US * 100 // percent)
        quota = str(period * percent // 100)
    if version == 1:
        return {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": quota}
    return {"cpu.max": f"{quota} {period}"}


def find_hierarchy(mounts: str) -> Hierarchy:
    """Return the hierarchy with the controller `cpu` among these mounts (proc_mounts(5)). Raises NoQuotas."""
    found = [line.split()[1:4] for line in mounts.splitlines() if len(line.split()) > 3]
    for place, kind, options in found:
        if kind == "cgroup" and "cpu" in options.split(","):
            return Hierarchy(Path(place), 1)
    for place, kind, _ in found:
        with contextlib.suppress(OSError):
            if kind == "cgroup2" and "cpu" in Path(place, "cgroup.controllers").read_text().split():
                return Hierarchy(Path(place), 2)
    raise NoQuotas("no control groups with the controller cpu are mounted; mount cgroup2, or leave out --speed")


@contextmanager
def quotas(percent: int) -> Iterator[Quotas]:
    """Remove the remains of dead processes, make control groups, and remove them at the end. Raises NoQuotas."""
    hierarchy = find_hierarchy(Path("/proc/self/mounts").read_text())
    parent = hierarchy.root / f"{own_label()}-quotas"
    try:
        for stale in [path for path in hierarchy.root.iterdir() if is_stale(path.name)]:
            remove_cgroup(stale)
        parent.mkdir()
        try:
            if hierarchy.version == 2:
                for place in (hierarchy.root, parent):
                    (place / "cgroup.subtree_control").write_text("+cpu")
            made = Quotas(hierarchy, parent, percent)
            made.enter("probe")
            made.hold()
            made.release()
        except OSError:
            remove_cgroup(parent)
            raise
    except OSError as error:
        raise NoQuotas(
            f"cannot make a control group with a quota in {hierarchy.root} ({error.strerror}); run this where "
            "control groups are writable, or leave out --speed"
        ) from None
    try:
        yield made
    finally:
        remove_cgroup(parent)


def remove_cgroup(cgroup: Path) -> None:
    """Remove a control group without processes, and all groups below it."""
    deadline = time.monotonic() + REMOVED_WITHIN
    for directory, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                Path(directory).rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            break
