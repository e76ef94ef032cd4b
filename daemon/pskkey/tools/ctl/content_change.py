"""Changes the content of a file, and nothing else: not its owner, group, mode, access control list or other attributes.

1. A new file with all of these replaces the present one. So a crash leaves either content, and never a part of one.
2. If that is not possible, the present file is written in place. Such a file is a mount of its own, as in a container,
   or has several names (hard links). Or this user may not make such a new file in its directory.
3. In place, at each moment the file has either all former lines or all new lines, and perhaps empty lines. A write is
   one system call, so only a crash of the machine can separate its parts, and only a reader of a file of more than one
   page (4096 bytes) can find a part of it. If it fails, the former content is restored.
4. A change that is killed can leave its new file, with a copy of the content. The next change of this file removes it.
   The name of the new file has the name of the present one, so no new file of another file is removed. The caller
   locks the present file, so no new file of another process that still runs is removed.
"""

import errno
import os
import re
import secrets
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pskkey.errors import ConfigError, without_keys

_ENDING: Final = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_OF_CONTENT: Final = frozenset({"security.evm", "security.ima"})
"""Attributes with a digest of the file, which the kernel itself keeps up to date."""
_LOST_BY_WRITING: Final = "security.capability"
"""The kernel removes this attribute when a file is written (capabilities(7))."""
_WRITE_IN_PLACE: Final = frozenset(
    {errno.EACCES, errno.EBUSY, errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.EPERM, errno.EROFS, errno.EXDEV}
)
"""The errors of a new file that do not concern a write in place."""


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that would end us: otherwise a file with keys could stay behind unnoticed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def change_content(path: Path, content: bytes) -> None:
    """Give the file at `path`, or the file to which this link leads, the new content: lines, or none.

    The caller holds a lock on the file. Empty lines must mean nothing in it. Prints a note if the new file of a change
    that was killed cannot be removed. Raises ConfigError when the file cannot be changed. Then it has its former
    content, unless the message states that this is lost.
    """
    path = path.resolve()  # a link stays a link
    named = without_keys(path)
    _remove_leftovers(path)
    with signals_blocked():
        try:
            if (why := _hindrance(path)) is None:
                why = _replace(path, content)
        except OSError as error:
            raise ConfigError(f"{named}: cannot be written: {error.strerror}") from None
        if why is None:
            return
        try:
            _write_in_place(path, content)
        except OSError as error:
            raise ConfigError(
                f"{named}: cannot be changed: a new file cannot replace it, because {why}, and it cannot be written in "
                f"place: {error.strerror}; change the file at its origin, or as a user that may write it"
            ) from None


def _remove_leftovers(path: Path) -> None:
    """Remove the new files that killed changes of this file have left. A failure only causes a note.

    Only regular files are removed, and no link is followed.
    """
    name = re.compile(re.escape(f".{path.name}.pskkey-") + "[0-9a-f]{16}")
    try:
        with os.scandir(path.parent) as entries:
            left = [each for each in entries if name.fullmatch(each.name) and each.is_file(follow_symlinks=False)]
    except OSError:
        return  # this user may not list the directory
    failed: OSError | None = None
    for each in left:
        try:
            Path(each.path).unlink(missing_ok=True)
        except OSError as error:
            failed = error
    if failed is not None:
        named = f"{without_keys(path.parent)}/.{without_keys(path.name)}.pskkey-*"
        why = f"a change that was killed left a copy of the keys, which cannot be removed: {failed.strerror}; remove it"
        print(f"pskkeyctl: note: {named}: {why}", file=sys.stderr)


def _hindrance(path: Path) -> str | None:
    """Return why no other file may take the place of this one; None if it may. Raises OSError."""
    if path.stat().st_nlink > 1:
        return "it has several names (hard links)"
    return "it is a mount of its own" if _mount_of(path) != _mount_of(path.parent) else None


def _mount_of(path: Path) -> str:
    """Return the line of proc_pid_fdinfo(5) that names the mount of a file; empty without /proc. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii").splitlines()
    except FileNotFoundError:
        return ""
    finally:
        os.close(descriptor)
    return next((line for line in lines if line.startswith("mnt_id:")), "")


def _replace(path: Path, content: bytes) -> str | None:
    """Replace the file by a new one with this content, and return None; or return why that is not possible.

    Raises OSError for an error that a write in place would have too. In both cases nothing has changed.
    """
    fresh = path.with_name(f".{path.name}.pskkey-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _copy_access(path, descriptor)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                if not _has_access_of(path, descriptor):
                    return "a new file does not get all of its attributes"
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in _WRITE_IN_PLACE:
            raise
        return f"that is refused ({error.strerror})"
    return None


def _copy_access(path: Path, descriptor: int) -> None:
    """Give the empty new file the owner, group, mode and attributes of the one at `path`. Raises OSError."""
    found, wanted = path.stat(), _attributes(path)
    os.fchown(descriptor, found.st_uid, found.st_gid)
    present = _attributes(descriptor)
    for name in present.keys() - wanted.keys():  # from the default access control list of the directory
        os.removexattr(descriptor, name)
    for name, value in wanted.items():
        if present.get(name) != value:
            os.setxattr(descriptor, name, value)
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode))


def _has_access_of(path: Path, descriptor: int) -> bool:
    found, fresh = path.stat(), os.fstat(descriptor)
    is_same = all(getattr(found, name) == getattr(fresh, name) for name in ("st_uid", "st_gid", "st_mode"))
    return is_same and _attributes(path) == _attributes(descriptor)


def _attributes(file: Path | int) -> dict[str, bytes]:
    """Return the extended attributes (xattr(7)) of a file, with its access control list. Raises OSError."""
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    return {name: os.getxattr(file, name) for name in names if name not in _OF_CONTENT}


def _write_in_place(path: Path, content: bytes) -> None:
    """Write the new content over the present one. Raises OSError or ConfigError, as `change_content` does."""
    if _LOST_BY_WRITING in _attributes(path):
        raise OSError(errno.EPERM, "its file capabilities would be lost (`setcap -r` removes them)")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        former = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        try:
            # Empty lines take the space that the file needs. If there is none, no key has been touched.
            _write(descriptor, b"\n" * (len(content) - len(former)), len(former))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, len(former))
            raise
        try:
            _write(descriptor, content.ljust(len(former), b"\n"), 0)
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)
        except OSError:
            _restore(path, descriptor, former)
            raise
    finally:
        os.close(descriptor)


def _restore(path: Path, descriptor: int, former: bytes) -> None:
    try:
        _write(descriptor, former, 0)
        os.ftruncate(descriptor, len(former))
        os.fsync(descriptor)
    except OSError as error:
        raise ConfigError(
            f"{without_keys(path)}: the write failed, and so did the return to the former content: {error.strerror}; "
            "copy the file from another node"
        ) from None


def _write(descriptor: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
