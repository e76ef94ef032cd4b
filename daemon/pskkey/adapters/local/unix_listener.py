"""A listening Unix socket, made here or inherited from systemd."""

import asyncio
import errno
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pskkey.adapters.complaints import Complaints
from pskkey.adapters.local.local_access import LocalAccess, peer_uid
from pskkey.adapters.local.waiting_room import WaitingRoom
from pskkey.adapters.token_bucket import Rate, TokenBucket
from pskkey.errors import ConfigError

_BACKLOG: Final = 256
"""Connections that the kernel queues."""
_ACCEPTED_PER_TURN: Final = 8
"""Connections that are accepted in one turn of the event loop. Each takes about 50 us."""
_ACCEPT_RATE: Final = Rate(per_second=300.0, burst=64.0)
"""Connections that are accepted into the waiting room. It empties a full queue of the kernel in a second."""
_OPENED_PER_TURN: Final = 4
"""Connections that are opened in one turn of the event loop."""
_OPEN_RATE: Final = Rate(per_second=150.0, burst=64.0)
"""Connections that are opened. To open one and to find a place for it takes about 1 ms."""
_ACCEPT_PAUSE: Final = 0.1
"""Seconds to wait when the system has no file descriptor or memory for another connection."""

_log = logging.getLogger("pskkey.unix_listener")


class UnixListener:
    """Accepts connections on a Unix socket and makes a protocol for each.

    The socket file of a dead daemon is replaced; that of a running one is not touched. `close` removes the file, unless
    the socket was inherited: then clients may queue on it until the daemon is back.
    """

    def __init__(self, counters: Counter[str], complaints: Complaints) -> None:
        """Counters: `connections_refused` (closed because too many wait), `accept_failures`."""
        self._counters = counters
        self._complaints = complaints
        self._listening: socket.socket | None = None
        self._protocol: Callable[[], asyncio.BaseProtocol] = asyncio.Protocol
        self._accepting = TokenBucket(_ACCEPT_RATE)
        self._pause: asyncio.TimerHandle | None = None
        self._waiting = WaitingRoom()
        self._pace = TokenBucket(_OPEN_RATE)
        self._next_turn: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._made: tuple[Path, int, int] | None = None
        self._inherited: Path | None = None

    async def start(
        self,
        protocol: Callable[[], asyncio.BaseProtocol],
        path: Path,
        access: LocalAccess,
        inherited: socket.socket | None = None,
    ) -> None:
        """Listen at `path` with the mode and group of `access`, or on the `inherited` listening socket instead.

        Raises ConfigError with a sentence that names the path and the remedy.
        """
        if inherited is None:
            listening = self._make(path, access)
        else:
            listening, self._inherited = inherited, Path(os.fsdecode(inherited.getsockname()))
            _warn_of_unit_mode(self._inherited, access)
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._listening, self._protocol = listening, protocol
        self._resume_accepting()

    def permit(self, access: LocalAccess) -> None:
        """Give the socket file another mode and group. The file of an inherited socket keeps those of its unit.

        A failed change is logged as a warning.
        """
        if self._inherited is not None:
            _warn_of_unit_mode(self._inherited, access)
        if self._made is None:
            return
        path, group = self._made[0], access.file_group
        try:
            with _held(*self._made) as file:
                if file is None:
                    return
                try:
                    file.chmod(access.mode)
                except OSError as error:
                    _log.warning("%s: its mode cannot be changed: %s", path, error.strerror)
                os.chown(file, -1, group)
        except OSError as error:
            _log.warning(
                "%s: cannot be given to group %d: %s; it stays with its former group", path, group, error.strerror
            )

    def close(self) -> None:
        """Accept nothing more and remove the socket file. Open connections stay."""
        if self._pause is not None:
            self._pause.cancel()
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._waiting.close()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        if self._made is not None:
            made, self._made = self._made, None
            try:
                if self._is_ours(*made):
                    made[0].unlink()
            except OSError as error:
                _log.warning("%s: cannot be removed: %s", made[0], error.strerror)

    async def wait_closed(self) -> None:
        """Wait until asyncio has closed every connection that was closed before."""
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.sleep(0)  # the turn in which asyncio closes them

    def _resume_accepting(self) -> None:
        self._pause = None
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def _pause_accepting(self, listening: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._pause = loop.call_later(seconds, self._resume_accepting)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_PER_TURN):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                # No file descriptor or memory is left: the pending connection would wake us again at once.
                self._counters["accept_failures"] += 1
                name = os.fsdecode(listening.getsockname())
                self._complaints.warn(name, f"accepting a connection failed: {error.strerror}; trying again")
                self._pause_accepting(listening, _ACCEPT_PAUSE)
                break
            accepted.setblocking(False)
            try:
                uid = self._waiting.enter(accepted, peer_uid(accepted))
            except OSError as error:
                _log.warning("the user of a new connection cannot be read: %s", error.strerror)
                accepted.close()
            else:
                if uid is not None:
                    self._counters["connections_refused"] += 1
                    self._complaints.warn(f"user {uid}", "a connection was closed before its turn: too many wait")
            if (wait := self._accepting.reserve(asyncio.get_running_loop().time())) > 0:
                self._pause_accepting(listening, wait)
                break
        if self._next_turn is None:
            self._open_some()

    def _open_some(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_turn, wait = None, 0.0
        for _ in range(_OPENED_PER_TURN):
            connection = self._waiting.leave()
            if connection is None:
                return
            opening = loop.create_task(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
            if (wait := self._pace.reserve(loop.time())) > 0:
                break
        self._next_turn = loop.call_later(wait, self._open_some)

    async def _open(self, accepted: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, accepted)

    def _is_ours(self, path: Path, device: int, inode: int) -> bool:
        """Whether our socket file is there. Another program may have removed or replaced it."""
        try:
            found = path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (device, inode)

    def _make(self, path: Path, access: LocalAccess) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            _make_room(path)
            # bind() makes the file with its final mode. A later chmod() of the path could follow a link, which a user
            # who may write to the directory can put there.
            former = os.umask(0o777 & ~access.mode)
            try:
                listening.bind(os.fspath(path))
            finally:
                os.umask(former)
            found = path.lstat()
            self._made = (path, found.st_dev, found.st_ino)
            with _held(*self._made) as file:
                if file is not None:
                    _give_to_group(file, path, access.group)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            self.close()
            # Python itself refuses a path that is too long, without an error number.
            reason = error.strerror or "the path is too long for a Unix socket, at most 107 bytes are allowed"
            raise ConfigError(f"{path}: cannot listen there: {reason}; set another socket path") from None
        except ConfigError:
            listening.close()
            raise
        return listening


@contextmanager
def _held(path: Path, device: int, inode: int) -> Iterator[Path | None]:
    """Yield a name for the socket file itself, also if `path` changes meanwhile; None when another file is there.

    chmod() and chown() of `path` could follow a link that replaced the file after the check. The O_PATH descriptor
    names the file that was checked, and needs no permission to open it. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        found = os.fstat(descriptor)
        same = (found.st_dev, found.st_ino) == (device, inode) and stat.S_ISSOCK(found.st_mode)
        yield Path(f"/proc/self/fd/{descriptor}") if same else None
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    """Prepare `path` for bind(): make its directory, and remove the socket of a dead daemon."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{path}: is in the way and no socket; remove it or set another socket path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(os.fspath(path))
    match result:
        case errno.ECONNREFUSED:
            _log.info("%s: replacing the socket of a daemon that is dead", path)
            path.unlink()
        case errno.ENOENT:
            return
        case 0 | errno.EAGAIN:
            raise ConfigError(f"{path}: another daemon listens there; stop it or set another socket path")
        case _:
            raise ConfigError(
                f"{path}: a socket is there that cannot be probed: {os.strerror(result)}; "
                "remove it or set another socket path"
            )


def _warn_of_unit_mode(path: Path, access: LocalAccess) -> None:
    """Warn when the mode or group of an inherited socket keeps out users who have access. Its unit sets both."""
    try:
        found = path.lstat()
    except OSError:
        return  # an abstract name, or a removed file: there is no mode
    if access.mode & stat.S_IWOTH and not found.st_mode & stat.S_IWOTH:
        _log.warning(
            "%s: the configuration names users, or several groups, but the socket's mode %04o keeps them out; "
            "set SocketMode=0666 in its unit (systemctl edit), the configuration still decides",
            path,
            stat.S_IMODE(found.st_mode),
        )
    elif access.group not in (None, found.st_gid) and not found.st_mode & stat.S_IWOTH:
        _log.warning(
            "%s: the configuration names another group than that of the socket; set SocketGroup= in its unit", path
        )


def _give_to_group(file: Path, path: Path, group: int | None) -> None:
    if group is None:
        return
    try:
        os.chown(file, -1, group)
    except PermissionError:
        _log.info("%s: only a member of group %d may give it the socket; it stays with our own group", path, group)
