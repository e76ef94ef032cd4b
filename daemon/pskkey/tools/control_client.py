"""The caller's side of the control socket: one Varlink call, blocking."""

import socket
import time
from pathlib import Path
from typing import Any, Final

from pskkey.errors import PeerError, Unreachable
from pskkey.wire.interfaces import CONTROL_INTERFACE
from pskkey.wire.varlink import MAX_REPLY, Call, Reply, VarlinkReader, decode_reply_untrusted, encode_call

DEFAULT_SOCKET: Final = Path("/run/pskkey/control.sock")
SOCKET_VARIABLE: Final = "PSKKEY_CONTROL_SOCKET"
READ_SIZE: Final = 65536


class Denied(PeerError):
    """The daemon, or the mode of its socket, does not let this user in."""


def call(path: Path, method: str, parameters: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Call a method of io.pskkey.Control and return the parameters of its reply, within `timeout` seconds.

    Raises Unreachable when no daemon answers at `path`, TimeoutError when it is too slow, Denied when we may not do
    this, BadPacket for a reply that is none, and PeerError (with the qualified Varlink error) for any other error.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(encode_call(Call(method=f"{CONTROL_INTERFACE}.{method}", parameters=parameters)))
            reply = decode_reply_untrusted(_receive(connection, path, deadline))
        except TimeoutError:
            raise TimeoutError(f"{path}: pskkeyd has not answered within {timeout:g} s") from None
        except PermissionError:
            raise Denied(
                "denied", f"{path}: permission denied; become root or a member of the group of this socket"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise Unreachable(f"{path}: no daemon listens there; is pskkeyd running?") from None
        except OSError as error:
            raise Unreachable(f"{path}: {error.strerror or error}") from None
    return _result(path, method, reply)


def _receive(connection: socket.socket, path: Path, deadline: float) -> bytes:
    reader = VarlinkReader(MAX_REPLY)
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        data = connection.recv(READ_SIZE)
        if not data:
            raise Unreachable(f"{path}: the daemon closed the connection; it has too many, or it is stopping")
        messages = reader.receive_untrusted(data)
        if messages:
            return messages[0]


def _result(path: Path, method: str, reply: Reply) -> dict[str, Any]:
    match reply.error:
        case None:
            return reply.parameters
        case "org.varlink.service.PermissionDenied":
            raise Denied("denied", f"{path}: you may not do this; become root, or see [control] in the configuration")
        case "org.varlink.service.MethodNotFound" | "org.varlink.service.MethodNotImplemented":
            raise PeerError(reply.error, f"{path}: this pskkeyd does not know {method}")
        case error:
            # Cut and made printable: it goes to a terminal.
            reason = ascii(str(reply.parameters.get("reason", "")))[1:-1][:500]
            raise PeerError(error, f"{path}: {reason or error.rpartition('.')[2]}")
