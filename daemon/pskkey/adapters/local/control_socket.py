"""`control.sock`: the Varlink service through which operators and programs watch and administer the daemon.

A user who can open the socket may read. Commands need an administrator: root, our own user, and the users and groups of
`[control]`. To add a command, describe it in `wire.control_interface` and pass it in `commands`.
"""

import asyncio
import logging
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any, Final

from pskkey.adapters.complaints import Complaints
from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.local.control_connection import ControlConnection
from pskkey.adapters.local.local_access import LocalAccess, PeerCredentials
from pskkey.adapters.local.unix_listener import UnixListener
from pskkey.adapters.token_bucket import Rate, TokenBucket, TokenBuckets
from pskkey.errors import BadPacket, PskkeyError, without_keys
from pskkey.wire import control_interface
from pskkey.wire.varlink import (
    Call,
    Reply,
    encode_reply,
    interface_not_found,
    invalid_parameter,
    method_not_found,
    method_not_implemented,
    permission_denied,
)

type Command = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the parameters of a call and returns those of the reply. May raise InvalidParameter and CommandRefused; any
other PskkeyError becomes the reply NotPossible with its sentence."""

MAX_CONNECTIONS: Final = 64
MAX_CONNECTIONS_OF_OTHERS: Final = 48
"""Connections of all users who are no administrators. The other places are kept free for administrators."""
MAX_CONNECTIONS_OF_USER: Final = 16
"""Connections of one user who is no administrator."""
ADMINISTRATOR_RATE: Final = Rate(per_second=200.0, burst=400.0)
"""Tokens for the calls of one user who is an administrator. CALL_TIME defines the price of a call."""
USER_RATE: Final = Rate(per_second=20.0, burst=60.0)
"""Tokens for the calls of one user who is no administrator."""
OTHERS_RATE: Final = Rate(per_second=50.0, burst=150.0)
"""Tokens for the calls of all users who are no administrators: at most a twentieth of the processor."""
MAX_LOGGED: Final = 200
"""Characters of a node's name, or of a reason, that are logged."""
STATUS_SPACING: Final = 0.1
"""Least seconds between two statuses to the followers."""
STATUS_SHARE: Final = 0.05
"""Part of the processor that statuses for followers may take. It counts in a large group, where one takes long."""

_DESCRIPTIONS: Final[Mapping[str, str]] = {
    control_interface.SERVICE_INTERFACE: control_interface.SERVICE_DESCRIPTION,
    control_interface.CONTROL_INTERFACE: control_interface.CONTROL_DESCRIPTION,
}
_DESCRIBED_METHODS: Final = frozenset(re.findall(r"(?m)^method (\w+)", control_interface.CONTROL_DESCRIPTION))

_log = logging.getLogger("pskkey.control_socket")


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """A command that a user gave, and its outcome."""

    peer: PeerCredentials
    command: str
    denied: bool
    node: str | None = None
    """The node that it names, with possible keys removed."""
    error: str | None = None
    """The name of the error in the reply; None when the command was accepted."""
    reason: str = ""

    def __str__(self) -> str:
        if self.denied:  # without the process id, so that repeated attempts do not fill the log
            return f"user {self.peer.uid} was denied {self.command}; [control] names who may administer"
        outcome = "accepted" if self.error is None else f"not done: {self.reason or self.error}"
        given = self.command if self.node is None else f"{self.command} to {self.node}"
        return f"{given}, asked for by user {self.peer.uid} (process {self.peer.pid}): {outcome}"

    @property
    def fields(self) -> dict[str, str | int | None]:
        """The fields of the log entry, for programs."""
        of_peer: dict[str, str | int | None] = {"uid": self.peer.uid, "pid": self.peer.pid, "command": self.command}
        return of_peer if self.denied else {**of_peer, "code": self.error}


class InvalidParameter(PskkeyError):
    """A command was called with a parameter that is unknown, missing or not allowed."""

    def __init__(self, parameter: str) -> None:
        super().__init__(f"the parameter {parameter} is not allowed here")
        self.parameter = parameter


class CommandRefused(PskkeyError):
    """A command cannot be done. `error` is the name of an error of io.pskkey.Control, with its parameters."""

    def __init__(self, error: str, parameters: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error
        self.parameters = parameters


class ControlSocket:
    """Answers Varlink calls. It decides only which user may call which method; the daemon gives status and commands."""

    def __init__(
        self,
        status: Callable[[], dict[str, Any]],
        commands: Mapping[str, Command],
        users: Sequence[str],
        groups: Sequence[str],
        counters: Counter[str],
        version: str,
        report: Callable[[CommandOutcome], None] | None = None,
        *,
        readings: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
    ) -> None:
        """`commands` and `readings` have their names in the interface description.

        Each user who can connect may call the readings, which have no parameters. `report` gets the outcome of every
        command.

        Raises ConfigError for unknown users, groups.
        """
        self._report = report or (lambda _: None)
        self._status = status
        self._commands = dict(commands)
        self._readings = dict(readings or {})
        self._access = LocalAccess.of(users, groups)
        self._counters = counters
        self._version = version
        self._turns = FairTurns()
        self._of_administrator = TokenBuckets(ADMINISTRATOR_RATE)
        self._of_user = TokenBuckets(USER_RATE)
        self._of_others = TokenBucket(OTHERS_RATE)
        self._inherited = False
        self._connections: dict[ControlConnection, PeerCredentials] = {}
        self._followers: set[ControlConnection] = set()
        self._publication: asyncio.TimerHandle | None = None
        self._spacing = STATUS_SPACING
        self._complaints = Complaints(_log)
        self._listener = UnixListener(counters, self._complaints)

    async def start(self, path: Path, inherited: socket | None = None) -> None:
        """Listen at `path`, or on an `inherited` listening socket. Raises ConfigError."""
        self._inherited = inherited is not None
        await self._listener.start(lambda: ControlConnection(self, self._turns), path, self._access, inherited)

    def permit(self, access: LocalAccess) -> None:
        """Let these administer from now on, and close the connections of users who could not connect any more.

        The unit of an inherited socket defines which users may connect, so its connections stay.
        """
        self._access = access
        self._listener.permit(access)
        if self._inherited or access.mode & stat.S_IWOTH:
            return
        for connection, peer in list(self._connections.items()):
            if not access.allows(peer) and access.file_group not in peer.gids:
                _log.info("process %d of user %d may not read the status any more", peer.pid, peer.uid)
                connection.close()

    def status_changed(self) -> None:
        """Send the new status to all followers, soon."""
        if self._followers and self._publication is None:
            self._publication = asyncio.get_running_loop().call_later(self._spacing, self._publish)

    async def stop(self) -> None:
        """Close all connections and the socket, and remove its file."""
        self._listener.close()
        if self._publication is not None:
            self._publication.cancel()
        for connection in list(self._connections):
            connection.close()
        await self._listener.wait_closed()

    def admit(self, connection: ControlConnection, peer: PeerCredentials) -> Sequence[TokenBucket] | None:
        """Note a new connection and return the buckets for its calls; None: there is no room for it."""
        others = [known for known in self._connections.values() if not self._access.allows(known)]
        room = len(self._connections) < MAX_CONNECTIONS
        if not self._access.allows(peer):
            room &= len(others) < MAX_CONNECTIONS_OF_OTHERS
            room &= sum(known.uid == peer.uid for known in others) < MAX_CONNECTIONS_OF_USER
        if not room:
            self._counters["connections_refused"] += 1
            self._complaints.warn(f"user {peer.uid}", f"process {peer.pid} was refused: too many connections")
            return None
        self._connections[connection] = peer
        now = asyncio.get_running_loop().time()
        if self._access.allows(peer):
            return [self._of_administrator.of(peer.uid, now)]
        return [self._of_user.of(peer.uid, now), self._of_others]

    def answer_call(self, connection: ControlConnection, peer: PeerCredentials, call: Call) -> Reply:
        """Return the reply to a call."""
        interface, _, method = call.method.rpartition(".")
        if call.upgrade:
            return invalid_parameter("upgrade")
        match interface:
            case control_interface.SERVICE_INTERFACE:
                return self._service(method, call.parameters)
            case control_interface.CONTROL_INTERFACE if method == "GetStatus":
                return self._get_status(connection, call)
            case control_interface.CONTROL_INTERFACE if method in self._readings:
                return _without_parameters(call) or Reply(parameters=self._readings[method]())
            case control_interface.CONTROL_INTERFACE:
                return self._command(peer, method, call)
            case _:
                return interface_not_found(interface)

    def report_bad_packet(self, peer: PeerCredentials, error: BadPacket) -> None:
        """Report that a caller broke the protocol."""
        self._counters["bad_packets"] += 1
        self._complaints.warn(f"user {peer.uid}", f"process {peer.pid} sent a bad packet: {error}")

    def forget(self, connection: ControlConnection) -> None:
        """Forget a connection that is closed."""
        self._connections.pop(connection, None)
        self._followers.discard(connection)

    def _service(self, method: str, parameters: dict[str, Any]) -> Reply:
        match method:
            case "GetInfo":
                if parameters:
                    return invalid_parameter(next(iter(parameters)))
                info = {"vendor": "pskkey", "product": "pskkeyd", "version": self._version, "url": ""}
                return Reply(parameters={**info, "interfaces": list(_DESCRIPTIONS)})
            case "GetInterfaceDescription":
                for parameter in parameters.keys() - {"interface"}:
                    return invalid_parameter(parameter)
                interface = parameters.get("interface")
                if not isinstance(interface, str):
                    return invalid_parameter("interface")
                if interface not in _DESCRIPTIONS:
                    return interface_not_found(interface)
                return Reply(parameters={"description": _DESCRIPTIONS[interface]})
            case _:
                return method_not_found(f"{control_interface.SERVICE_INTERFACE}.{method}")

    def _get_status(self, connection: ControlConnection, call: Call) -> Reply:
        if (refusal := _without_parameters(call)) is not None:
            return refusal
        if call.more and not call.oneway:
            self._followers.add(connection)
            return Reply(parameters=self._status(), continues=True)
        return Reply(parameters=self._status())

    def _command(self, peer: PeerCredentials, method: str, call: Call) -> Reply:
        command = self._commands.get(method)
        if command is None:
            known = method in _DESCRIBED_METHODS
            return method_not_implemented(call.method) if known else method_not_found(call.method)
        if not self._access.allows(peer):
            self._report(CommandOutcome(peer, method, denied=True))
            return permission_denied()
        node = call.parameters.get("node")
        try:
            reply = Reply(parameters=command(call.parameters))
        except InvalidParameter as error:
            reply = invalid_parameter(error.parameter)
        except CommandRefused as error:
            reply = Reply(error=f"{control_interface.CONTROL_INTERFACE}.{error.error}", parameters=error.parameters)
        except PskkeyError as error:
            reply = Reply(error=f"{control_interface.CONTROL_INTERFACE}.NotPossible", parameters={"reason": str(error)})
        named = None if node is None else without_keys(str(node)[:MAX_LOGGED])
        code = reply.error.rpartition(".")[2] if reply.error else None
        reason = without_keys(str(reply.parameters.get("reason", ""))[:MAX_LOGGED])
        self._report(CommandOutcome(peer, method, denied=False, node=named, error=code, reason=reason))
        return reply

    def _publish(self) -> None:
        self._publication = None
        # The status may be large, and there may be many followers: it is encoded once, and sent to them in turn.
        began = time.thread_time()
        encoded = encode_reply(Reply(parameters=self._status(), continues=True))
        self._spacing = max(STATUS_SPACING, (time.thread_time() - began) / STATUS_SHARE)
        for connection in self._followers:
            connection.update(encoded)


def _without_parameters(call: Call) -> Reply | None:
    """Return the refusal of a call with parameters, whose method has none."""
    return invalid_parameter(next(iter(call.parameters))) if call.parameters else None
