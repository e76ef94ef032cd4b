"""The project's interpreter run as an ordinary user, even if only root may enter its directory."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pskkey

USER: Final = "nobody"
GROUP: Final = "nogroup"
UID: Final = 65534


def as_ordinary_user() -> tuple[str, ...]:
    """Return the start of a command line that runs the rest as user `nobody`, under the same pid. Needs root.

    The command gets a mount namespace of its own. In it the directories that are closed to others, as /root is, are
    open and hold only the files that the command needs. Nothing changes for other processes.
    """
    needed = {Path(sys.base_prefix), Path(sys.prefix), Path(pskkey.__file__).parent}
    hidden = {path: closed for path in needed if (closed := next(_closed(path), None))}
    steps = ["set -e"]
    for number, path in enumerate(hidden):
        steps.append(f"t{number}=$(mktemp -d); mount --bind {shlex.quote(str(path))} $t{number}")
    steps += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}" for closed in set(hidden.values())]
    for number, path in enumerate(hidden):
        quoted = shlex.quote(str(path))
        steps.append(f"mkdir -p {quoted}; mount --move $t{number} {quoted}; rmdir $t{number}")
    steps.append(f'exec setpriv --reuid={USER} --regid={GROUP} --clear-groups -- "$@"')
    return ("unshare", "--mount", "sh", "-c", "\n".join(steps), "sh")


def _closed(path: Path) -> Iterator[Path]:
    """Yield the directories on the way to `path`, outermost first, that others may not enter."""
    for directory in reversed([path, *path.parents]):
        if not directory.stat().st_mode & 0o001:
            yield directory
