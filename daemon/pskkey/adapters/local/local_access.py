"""The credentials of the peer of a Unix socket, and the access of users and groups."""

import errno
import grp
import logging
import os
import pwd
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

from pskkey.config.schema import DEFAULT_HANDOFF_GROUP
from pskkey.errors import ConfigError

_UCRED: Final = struct.Struct("=iII")
"""`struct ucred` of unix(7): pid, uid, gid."""
_SO_PEERGROUPS: Final = 59
"""SO_PEERGROUPS of <asm-generic/socket.h>: the peer's supplementary groups. The socket module does not have it."""
_MAX_GROUPS: Final = 256
"""Python's getsockopt has no room for more."""

_log = logging.getLogger("pskkey.local_access")


class _Socket(Protocol):
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """The process that connected, with its id, user and all groups at that time."""

    pid: int
    uid: int
    gids: frozenset[int]

    @classmethod
    def of(cls, connection: _Socket) -> Self:
        """Read the credentials of the peer of a connected Unix socket. Raises OSError."""
        pid, uid, gid = _ucred(connection)
        try:
            found = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
            groups = struct.unpack(f"={len(found) // 4}I", found)
        except OSError as error:
            if error.errno != errno.ERANGE:
                raise
            groups = _groups_of_user(uid, gid)
        return cls(pid, uid, frozenset({gid, *groups}))


def peer_uid(connection: _Socket) -> int:
    """Return the user of the peer of a connected Unix socket. This is cheaper than all credentials. Raises OSError."""
    return _ucred(connection)[1]


def _ucred(connection: _Socket) -> tuple[int, int, int]:
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def _groups_of_user(uid: int, gid: int) -> tuple[int, ...]:
    """Return the groups of a user from the user database, because they are too many for getsockopt."""
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return ()


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """The users and groups that have access, as numbers. Root and our own user always have it."""

    uids: frozenset[int]
    gids: tuple[int, ...]

    @classmethod
    def of(cls, users: Sequence[str], groups: Sequence[str]) -> Self:
        """Look the names up on this machine.

        The default group `pskkey` need not exist: then it is ignored. Raises ConfigError for any other unknown name.
        """
        uids = {0, os.geteuid()}
        gids = []
        for user in users:
            try:
                uids.add(pwd.getpwnam(user).pw_uid)
            except KeyError:
                raise ConfigError(f"{user} is no user of this machine; create it or take it off the list") from None
        for group in groups:
            try:
                gids.append(grp.getgrnam(group).gr_gid)
            except KeyError:
                if group != DEFAULT_HANDOFF_GROUP:
                    raise ConfigError(
                        f"{group} is no group of this machine; create it or take it off the list"
                    ) from None
                _log.info("there is no group %s on this machine: only root and the daemon's user get keys", group)
        return cls(frozenset(uids), tuple(gids))

    def allows(self, peer: PeerCredentials) -> bool:
        """Whether this process has access, by its user or one of its groups."""
        return peer.uid in self.uids or not peer.gids.isdisjoint(self.gids)

    @property
    def group(self) -> int | None:
        """The group for the socket file: the first one that was named, if any."""
        return self.gids[0] if self.gids else None

    @property
    def file_group(self) -> int:
        """The group that the socket file gets: `group`, or our own."""
        return os.getegid() if self.group is None else self.group

    @property
    def mode(self) -> int:
        """The mode of the socket file.

        A file has one group. If users or a second group are named, every user may connect, and the credentials alone
        decide.
        """
        named = self.uids - {0, os.geteuid()}
        return 0o666 if named or len(self.gids) > 1 else 0o660
