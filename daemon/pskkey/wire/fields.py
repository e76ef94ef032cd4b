"""The fields of JSON packets, each with its bound, and the base model of the packets."""

from collections.abc import Iterator
from dataclasses import replace
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, Any, Final, Self
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, StringConstraints, ValidationError

from pskkey.errors import BadPacket
from pskkey.model import MAX_EPOCH, SENDER_IDS, Levels, Member, Times
from pskkey.wire.strict_json import decode_object_untrusted

MAX_TERM: Final = 2**53 - 1
MAX_ADDRESSES: Final = 8
MAX_TEXT: Final = 250
MAX_VERSION: Final = 64
MAX_LEVEL: Final = 255
_CONTROLS: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control characters, formats such as changes of direction, surrogates, and separators."""
LEVEL_1: Final = Levels(1, 1)
"""The levels of a node that names none."""


def parse_address(text: str) -> str:
    """Return the canonical form of one host's IP address, without its zone.

    A zone ("%eth0") means something only on the machine that wrote it. Raises ValueError for anything else.
    """
    host = text.partition("%")[0]
    family = AF_INET6 if ":" in host else AF_INET
    try:
        # Pure conversions without I/O. `ipaddress` takes twenty times longer, and a group has hundreds of addresses.
        packed = inet_pton(family, host)
    except (OSError, ValueError):
        raise ValueError("must be an IPv4 or IPv6 address") from None
    multicast = packed[0] == 0xFF if family == AF_INET6 else packed[0] >> 4 == 0xE
    if multicast or not any(packed):
        raise ValueError("must be the address of one host")
    return inet_ntop(family, packed)


def check_printable(text: str) -> str:
    """Return `text`. Raises ValueError when it could disturb a terminal or a log.

    A character that this version of Unicode does not have is allowed: the Python of another node may know it, and one
    name must not make a whole GROUP unreadable.
    """
    if not text.isprintable() and any(category(char) in _CONTROLS for char in text):
        raise ValueError("must be printable")
    return text


def check_levels(levels: tuple[int, int]) -> tuple[int, int]:
    """Return `levels`. Raises ValueError when the lowest is above the highest."""
    if levels[0] > levels[1]:
        raise ValueError("must begin with the lowest level")
    return levels


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(check_printable)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{16}\z")]
NodeId = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{8,32}\z")]
Address = Annotated[str, StringConstraints(max_length=64), AfterValidator(parse_address)]
Addresses = Annotated[tuple[Address, ...], Field(strict=False, max_length=MAX_ADDRESSES), FailFast()]
Port = Annotated[int, Field(ge=1, le=65535)]
Priority = Annotated[int, Field(ge=0, le=255)]
Epoch = Annotated[int, Field(ge=1, le=MAX_EPOCH)]
SenderId = Annotated[int, Field(ge=0, lt=SENDER_IDS)]
Term = Annotated[int, Field(ge=0, le=MAX_TERM)]
Version = Annotated[str, StringConstraints(max_length=MAX_VERSION), AfterValidator(check_printable)]
Level = Annotated[int, Field(ge=1, le=MAX_LEVEL)]
Speaks = Annotated[tuple[Level, Level], Field(strict=False), FailFast(), AfterValidator(check_levels)]


class Packet(BaseModel):
    """Base of every JSON packet: no coercion, and no input repeated in an error.

    Unknown fields are ignored, because a later version may add one. So a field that is added later has a default here.
    Every list in a packet has `FailFast()`: without it each bad item costs an error of its own, and 64 KiB of them cost
    half a second.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True, defer_build=True)

    @classmethod
    def parse_untrusted(cls, payload: bytes) -> Self:
        """Read a payload. Raises BadPacket, which names the field and repeats nothing else of the peer's text."""
        return cls.of_untrusted(decode_object_untrusted(payload))

    @classmethod
    def of_untrusted(cls, fields: dict[str, Any]) -> Self:
        """Check fields that were read already. Raises what `parse_untrusted` raises."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ascii(".".join(str(step) for step in first["loc"])[:80])
            raise BadPacket(f"field {place}: {first['msg']}") from None

    def encode(self) -> bytes:
        """Return compact JSON in UTF-8."""
        return self.model_dump_json().encode()


def build_packets() -> Iterator[None]:
    """Build the models of the packets, one in each step.

    pydantic otherwise builds a model when it is first used. That takes 10 ms of processor time, or half a second on a
    slow device: the first join would make the master pause.
    """
    waiting = [Packet]
    for model in waiting:
        waiting += model.__subclasses__()
        model.model_rebuild()
        yield


class TimesFields(Packet):
    """A `model.Times`, within the bounds of the configuration."""

    heartbeat_interval: Annotated[float, Field(ge=0.05, le=60, allow_inf_nan=False)]
    dead_after: Annotated[float, Field(ge=0.1, le=300, allow_inf_nan=False)]

    def value(self) -> Times:
        """Return the times."""
        return Times(self.heartbeat_interval, self.dead_after)


class MemberFields(Packet):
    """A `model.Member` as it names itself. Its version and its levels are fields of the packet."""

    id: NodeId
    name: Text
    addresses: Addresses
    port: Port
    priority: Priority
    eligible: bool
    sender_id: SenderId | None
    acked_epoch: Epoch | None

    @classmethod
    def of(cls, member: Member) -> Self:
        """Return the fields of a member. Raises ValueError when one is out of bounds."""
        return cls.model_validate(member, from_attributes=True)

    def value(self) -> Member:
        """Return the member."""
        return Member(
            id=self.id,
            name=self.name,
            addresses=self.addresses,
            port=self.port,
            priority=self.priority,
            eligible=self.eligible,
            sender_id=self.sender_id,
            acked_epoch=self.acked_epoch,
        )


class ListedMember(MemberFields):
    """A `model.Member` as others list it."""

    version: Version = ""
    speaks: Speaks = LEVEL_1

    def value(self) -> Member:
        """Return the member."""
        return replace(super().value(), version=self.version, speaks=Levels(*self.speaks))
