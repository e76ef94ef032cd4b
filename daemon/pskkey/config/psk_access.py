"""The permissions of a PSK file. A process that has the PSK may become master.

1. Other users have no access to the file, and its group may at most read it.
2. It belongs to root or to the user that reads it. Root reads a file of any user, because root makes files for
   the daemon's user.
3. The users and groups of [handoff], who may fetch the group key, may not read the file, by its group or by an access
   control list (acl(5)). The list may name others: the operator trusts them with the PSK.
"""

import errno
import grp
import os
import pwd
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pskkey.errors import ConfigError, without_keys

_ACL: Final = "system.posix_acl_access"
_ACL_HEADER: Final = struct.Struct("<I")
_ACL_ENTRY: Final = struct.Struct("<HHI")
"""`struct posix_acl_xattr_entry` of <linux/posix_acl_xattr.h>: tag, permissions, user or group."""
_ACL_USER: Final = 0x02
_ACL_GROUP: Final = 0x08
_ACL_READ: Final = 0x04
_NO_ACL: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT})


def check_access(path: Path, status: os.stat_result, users: Sequence[str], groups: Sequence[str]) -> None:
    """Raise ConfigError when the file at `path`, which has this status, is open to others than it may be.

    `users` and `groups` are those of [handoff]; a name that the machine does not know is ignored.
    """
    named = without_keys(path)
    if status.st_mode & stat.S_IRWXO:
        raise ConfigError(
            f"{named}: the PSK file may be read or changed by every user of this machine (mode "
            f"{stat.S_IMODE(status.st_mode):04o}); allow 0600, or 0640 with a group of its own"
        )
    if status.st_mode & stat.S_IWGRP:
        raise ConfigError(f"{named}: the PSK file may be changed by its group; allow 0600 or 0640")
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise ConfigError(
            f"{named}: the PSK file belongs to user {status.st_uid}, who may change it; `chown` it to root or to the "
            "user that reads it"
        )
    if status.st_mode & stat.S_IRGRP and (reader := _reader(path, status.st_gid, users, groups)) is not None:
        raise ConfigError(
            f"{named}: the PSK file may be read by {reader} of [handoff], and a user with the PSK may become master; "
            "allow 0600, or 0640 with a group of its own"
        )


def _reader(path: Path, group_of_file: int, users: Sequence[str], groups: Sequence[str]) -> str | None:
    """Return the first of these groups and users that may read the file; None when there is none."""
    entries = list(_acl(path))
    uids = {number for tag, number in entries if tag == _ACL_USER}
    gids = {group_of_file, *(number for tag, number in entries if tag == _ACL_GROUP)}
    for group in groups:
        try:
            if grp.getgrnam(group).gr_gid in gids:
                return f"the group {group}"
        except KeyError:
            continue
    for user in users:
        try:
            found = pwd.getpwnam(user)
        except KeyError:
            continue
        if found.pw_uid in uids or not gids.isdisjoint(os.getgrouplist(user, found.pw_gid)):
            return f"the user {user}"
    return None


def _acl(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the tag and number of each user and group that may read by an access control list."""
    try:
        content = os.getxattr(path, _ACL)
    except OSError as error:
        if error.errno in _NO_ACL:
            return
        raise ConfigError(
            f"{without_keys(path)}: the access control list of the PSK file cannot be read: {error.strerror}"
        ) from None
    for tag, permissions, number in _ACL_ENTRY.iter_unpack(content[_ACL_HEADER.size :]):
        if permissions & _ACL_READ:
            yield tag, number
