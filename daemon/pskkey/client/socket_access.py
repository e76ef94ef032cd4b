"""Advice for a user to whom the operating system denies one of the daemon's sockets."""

import grp
import os
import stat
from pathlib import Path

_ROOT = 0


def describe_access(path: Path) -> str:
    """Return how to get access to `path`, as part of a sentence: as root, or in the group that owns it."""
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:
            continue  # a directory above it denies us access, and comes later in this loop
        if found.st_gid == _ROOT or not found.st_mode & stat.S_IRWXG:
            break
        try:
            group = grp.getgrgid(found.st_gid).gr_name
        except KeyError:
            break
        if found.st_gid in os.getgroups():
            break
        return f"become root, or join the group {group}: `sudo usermod -aG {group} $USER`, and log in again"
    return "become root"
