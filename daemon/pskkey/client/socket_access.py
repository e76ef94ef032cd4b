"""What somebody does next whom the operating system keeps out of one of the daemon's sockets."""

import grp
import os
import stat
from pathlib import Path

_ROOT = 0


def how_to_enter(path: Path) -> str:
    """Return what to do, as part of a sentence: whom root or a group that owns `path` lets in."""
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:
            continue  # behind the directory that keeps us out
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
