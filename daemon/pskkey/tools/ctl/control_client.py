"""The caller's side of the control socket, blocking: one Varlink call, or the status whenever it changes.

It reads and writes Varlink by itself, without the models of `wire.varlink`: those take longer to load than everything
else that a short-lived program does. Its checks are as strict as those of the models.
"""

import socket
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from pskkey.client.socket_access import describe_access
from pskkey.errors import BadPacket, NothingListens, PeerError, Unreachable
from pskkey.program import wait_while_output_is_read
from pskkey.tools.ctl.status_reading import Status
from pskkey.wire.control_interface import CONTROL_INTERFACE
from pskkey.wire.strict_json import decode_object_untrusted, encode_object

DEFAULT_SOCKET: Final = Path("/run/pskkey/control.sock")
SOCKET_VARIABLE: Final = "PSKKEY_CONTROL_SOCKET"
READ_SIZE: Final = 65536
MAX_REPLY: Final = 16 * 1024 * 1024
"""Bytes of the largest reply that is read: the status of thousands of members."""


class Denied(PeerError):
    """The daemon, or the mode of its socket, denies access to this user."""


class _Reply(NamedTuple):
    parameters: dict[str, Any]
    continues: bool
    error: str | None


def call(path: Path, method: str, parameters: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Call a method of io.pskkey.Control and return the parameters of its reply, within `timeout` seconds.

    Raises NothingListens without a daemon at `path`, Unreachable when it goes away, TimeoutError when it is too slow,
    Denied when we may not do this, BadPacket for a malformed reply, and PeerError (with the qualified Varlink error)
    for any other error.
    """
    try:
        with closing(_replies(path, method, parameters, more=False, deadline=time.monotonic() + timeout)) as replies:
            return next(replies).parameters
    except TimeoutError:
        raise TimeoutError(f"{path}: pskkeyd has not answered within {timeout:g} s") from None


def get_status(path: Path, timeout: float) -> tuple[dict[str, Any], Status]:
    """Return the status as the daemon sent it, and as values. Raises the errors of `call`."""
    parameters = call(path, "GetStatus", {}, timeout)
    with _named_errors(path):
        return parameters, Status.parse_untrusted(parameters)


def follow_status(path: Path, deadline: float | None, *, shown: bool = False) -> Generator[Status]:
    """Yield the status, at once and whenever it changes, until `deadline` (of time.monotonic; None: for ever).

    `shown`: the caller prints each status, so OutputFailed is raised as soon as nobody reads the output any more.

    Raises TimeoutError at the deadline, Unreachable when the daemon is not there or goes away, and otherwise the errors
    of `call`.
    """
    for reply in _replies(path, "GetStatus", {}, more=True, deadline=deadline, shown=shown):
        with _named_errors(path):
            if not reply.continues:
                raise BadPacket("this daemon does not report when its status changes; update pskkeyd")
            status = Status.parse_untrusted(reply.parameters)
        yield status


def _replies(
    path: Path, method: str, parameters: dict[str, Any], *, more: bool, deadline: float | None, shown: bool = False
) -> Generator[_Reply]:
    with socket.socket(socket.AF_UNIX) as connection:
        with _named_errors(path):
            connection.settimeout(_remaining(deadline))
            connection.connect(str(path))
            request = {"method": f"{CONTROL_INTERFACE}.{method}", "parameters": parameters, "more": more}
            connection.sendall(encode_object(request) + b"\0")
        messages = _messages(connection, path, deadline, shown)
        while True:
            with _named_errors(path):
                reply = _decode_reply_untrusted(next(messages))
            yield _checked(path, method, reply)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except BadPacket as error:
        raise BadPacket(f"{path}: {error}") from None
    except PermissionError:
        raise Denied("denied", f"{path}: permission denied; {describe_access(path)}") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NothingListens(f"{path}: no daemon listens there; is pskkeyd running?") from None
    except OSError as error:
        raise Unreachable(f"{path}: {error.strerror or error}") from None


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _messages(connection: socket.socket, path: Path, deadline: float | None, shown: bool) -> Iterator[bytes]:
    """Yield the messages, without the NUL bytes that end them."""
    pending = bytearray()
    while True:
        remaining = _remaining(deadline)
        connection.settimeout(remaining)
        if shown and not wait_while_output_is_read(connection, remaining):
            raise TimeoutError
        data = connection.recv(READ_SIZE)
        if not data:
            raise Unreachable(f"{path}: the daemon closed the connection; it has too many, or it is stopping")
        *complete, rest = data.split(b"\0")
        for piece in complete:
            yield bytes(pending + piece)
            pending.clear()
        pending += rest
        if len(pending) > MAX_REPLY:
            raise BadPacket(f"the daemon's reply is longer than {MAX_REPLY} bytes")


def _decode_reply_untrusted(message: bytes) -> _Reply:
    # Null means the same as a missing field (varlink.org, "Interface Definition": maybe types).
    fields = {name: value for name, value in decode_object_untrusted(message).items() if value is not None}
    match {"parameters": {}, "continues": False, "error": None, **fields}:
        case {"parameters": dict(parameters), "continues": bool(continues), "error": str() | None as error, **others}:
            if not others:
                return _Reply(parameters, continues, error)
    raise BadPacket("not a Varlink reply")


def _checked(path: Path, method: str, reply: _Reply) -> _Reply:
    """Return the reply; raise the exception for an error."""
    match reply.error:
        case None:
            return reply
        case "org.varlink.service.PermissionDenied":
            raise Denied("denied", f"{path}: you may not do this; become root, or see [control] in the configuration")
        case "org.varlink.service.MethodNotFound" | "org.varlink.service.MethodNotImplemented":
            raise PeerError(reply.error, f"{path}: this pskkeyd does not know {method}")
        case "io.pskkey.Control.NoSuchNode":
            node = _printable(reply.parameters.get("node"))
            text = f"no other member has the id or name {node}; see pskkeyctl members"
            raise PeerError(reply.error, f"{path}: {text}")
        case error:
            reason = _printable(reply.parameters.get("reason", ""))
            raise PeerError(error, f"{path}: {reason or _printable(error.rpartition('.')[2])}")


def _printable(text: object) -> str:
    """Return the text, cut and made printable, for a terminal."""
    return ascii(str(text))[1:-1][:500]
