"""Varlink (varlink.org, "Protocol"): JSON objects, each ended by a NUL byte.

A call is `{"method": "interface.Method", "parameters": {}, "more": false, "oneway": false, "upgrade": false}`, a reply
`{"parameters": {}, "continues": false, "error": "interface.Error"}`; only `method` must be there. This module knows the
form of calls and replies and the errors of the service itself; the methods are implemented
elsewhere, and `control_interface` describes them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from pskkey.errors import BadPacket
from pskkey.wire.fields import Packet
from pskkey.wire.strict_json import decode_object_untrusted, encode_object

MAX_CALL: Final = 65536
"""Bytes of the largest call that a service reads."""

_NAME: Final = r"\A[A-Za-z]([-]*[A-Za-z0-9])*(\.[A-Za-z0-9]([-]*[A-Za-z0-9])*)+\.[A-Z][A-Za-z0-9]*\z"
_QualifiedName = Annotated[str, StringConstraints(max_length=255, pattern=_NAME)]


class VarlinkReader:
    """Cuts a byte stream into the messages between its NUL bytes, each of at most `limit` bytes."""

    def __init__(self, limit: int = MAX_CALL) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._broken = False

    def receive_untrusted(self, data: bytes) -> list[bytes]:
        """Take the next bytes, in pieces of any size, and return the messages that they complete, without their NUL.

        Raises BadPacket as soon as a message is longer than the limit, and from then on always.
        """
        if self._broken:
            raise BadPacket("the connection was given up after a message that was too long")
        *complete, rest = data.split(b"\0")
        messages: list[bytes] = []
        for piece in complete:
            self._append_untrusted(piece)
            messages.append(bytes(self._pending))
            self._pending.clear()
        self._append_untrusted(rest)
        return messages

    def _append_untrusted(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) > self._limit:
            self._broken = True
            self._pending.clear()
            raise BadPacket(f"a Varlink message is longer than {self._limit} bytes")
        self._pending += piece


class Call(Packet, extra="forbid"):
    """A call of `method`. With `more` the caller takes several replies, with `oneway` none."""

    method: _QualifiedName
    parameters: dict[str, Any] = Field(default_factory=dict)
    more: bool = False
    oneway: bool = False
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. `continues`: another one follows. `error`: the qualified name of the error, or None."""

    parameters: dict[str, Any] = field(default_factory=dict)
    continues: bool = False
    error: str | None = None


def decode_call_untrusted(message: bytes) -> Call:
    """Read one message as a call."""
    fields = decode_object_untrusted(message)
    # Null means the same as a missing field (varlink.org, "Interface Definition": maybe types).
    return Call.of_untrusted({name: value for name, value in fields.items() if value is not None})


def encode_reply(reply: Reply) -> bytes:
    """Return a reply as it goes on the wire. Raises ValueError for parameters that JSON cannot hold."""
    fields = {"parameters": reply.parameters, "continues": reply.continues, "error": reply.error}
    return encode_object({name: value for name, value in fields.items() if value}) + b"\0"


def interface_not_found(interface: str) -> Reply:
    """Return the error: the service does not have this interface."""
    return _service_error("InterfaceNotFound", interface=interface)


def method_not_found(method: str) -> Reply:
    """Return the error: the interface has no such method; `method` is the qualified name."""
    return _service_error("MethodNotFound", method=method)


def method_not_implemented(method: str) -> Reply:
    """Return the error: the service does not have a method that the interface describes, by its qualified name."""
    return _service_error("MethodNotImplemented", method=method)


def invalid_parameter(parameter: str) -> Reply:
    """Return the error: a parameter is unknown, missing or has a wrong value."""
    return _service_error("InvalidParameter", parameter=parameter)


def permission_denied() -> Reply:
    """Return the error: the caller's credentials do not allow this."""
    return _service_error("PermissionDenied")


def _service_error(name: str, **parameters: str) -> Reply:
    return Reply(error=f"org.varlink.service.{name}", parameters=dict(parameters))
