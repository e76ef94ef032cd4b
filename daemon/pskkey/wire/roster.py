"""GROUP and HANDOVER, the packets that list a whole group and may need several frames.

Each frame is a JSON object with `part` (from 1) of `parts`. It repeats the fields that are not lists, and has its share
of the lists: members first, then the succession. No other packet may come between the frames of one message. Encoders
raise ValueError for a value out of bounds; `RosterReader` raises only BadPacket.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import FailFast, Field

from pskkey.errors import BadPacket
from pskkey.model import MAX_KEY_AGE, Group, Handover, Member
from pskkey.wire.fields import MAX_MEMBERS, Fingerprint, Level, ListedMember, NodeId, Packet, Term, TimesFields
from pskkey.wire.frame import MAX_PAYLOAD, PacketType

MAX_PARTS: Final = 128
"""Frames of one message: enough for the most members with every field at its bound."""

_PartNumber = Annotated[int, Field(ge=1, le=MAX_PARTS)]
_Members = Annotated[tuple[ListedMember, ...], Field(strict=False, max_length=MAX_MEMBERS), FailFast()]
_Succession = Annotated[tuple[NodeId, ...], Field(strict=False, max_length=MAX_MEMBERS), FailFast()]


class _GroupPart(Packet):
    term: Term
    master: NodeId
    part: _PartNumber
    parts: _PartNumber
    members: _Members
    succession: _Succession
    times: TimesFields
    level: Level = 1
    key_age: Annotated[int, Field(ge=0, le=MAX_KEY_AGE)] = 0
    known_outside: Fingerprint | Literal[""] = ""


class _HandoverPart(Packet):
    term: Term
    master: ListedMember
    part: _PartNumber
    parts: _PartNumber
    members: _Members


def encode_group(message: Group) -> list[bytes]:
    """Return the payloads of a GROUP, one for each frame, to be sent in this order."""
    members = _member_fields(message.members)
    times = TimesFields.model_validate(message.times, from_attributes=True)
    if len(set(message.succession)) < len(message.succession):
        raise ValueError("a node is twice in the succession")

    def part(number: int, count: int, share: Sequence[ListedMember | str]) -> bytes:
        return _GroupPart(
            term=message.term,
            master=message.master,
            part=number,
            parts=count,
            members=tuple(item for item in share if isinstance(item, ListedMember)),
            succession=tuple(item for item in share if isinstance(item, str)),
            times=times,
            level=message.level,
            key_age=message.key_age,
            known_outside=message.known_outside,
        ).encode()

    items: tuple[ListedMember | str, ...] = (*members, *message.succession)
    whole = part(1, 1, items)
    if len(whole) <= MAX_PAYLOAD:
        return [whole]
    shares = _shares(items, MAX_PAYLOAD - len(part(MAX_PARTS, MAX_PARTS, ())))
    return [part(number, len(shares), share) for number, share in enumerate(shares, 1)]


def encode_handover(message: Handover) -> list[bytes]:
    """Return the payloads of a HANDOVER, one for each frame, to be sent in this order."""
    master = ListedMember.of(message.master)
    members = _member_fields(message.members)

    def part(number: int, count: int, share: tuple[ListedMember, ...]) -> bytes:
        return _HandoverPart(term=message.term, master=master, part=number, parts=count, members=share).encode()

    whole = part(1, 1, members)
    if len(whole) <= MAX_PAYLOAD:
        return [whole]
    shares = _shares(members, MAX_PAYLOAD - len(part(MAX_PARTS, MAX_PARTS, ())))
    return [part(number, len(shares), share) for number, share in enumerate(shares, 1)]


class RosterReader:
    """Joins the frames of a GROUP or a HANDOVER, holding no more than the most members of one message."""

    def __init__(self) -> None:
        self._first: _GroupPart | _HandoverPart | None = None
        self._received = 0
        self._members: list[Member] = []
        self._succession: list[str] = []

    @property
    def unfinished(self) -> PacketType | None:
        """The type of the message whose last frame is still missing: only its next frame may come now."""
        if self._first is None:
            return None
        return PacketType.GROUP if isinstance(self._first, _GroupPart) else PacketType.HANDOVER

    def receive_group_untrusted(self, payload: bytes) -> Group | None:
        """Take the next frame of a GROUP; return the message when it was the last one."""
        part = _GroupPart.parse_untrusted(payload)
        self._add_untrusted(part)
        self._succession += part.succession
        _check_list_untrusted("succession", self._succession)
        if self._received < part.parts:
            return None
        members, times = tuple(self._members), part.times.value()
        succession = tuple(self._succession)
        message = Group(
            part.term, part.master, members, succession, times, part.level, part.key_age, part.known_outside
        )
        self._clear()
        return message

    def receive_handover_untrusted(self, payload: bytes) -> Handover | None:
        """Take the next frame of a HANDOVER; return the message when it was the last one."""
        part = _HandoverPart.parse_untrusted(payload)
        self._add_untrusted(part)
        if self._received < part.parts:
            return None
        message = Handover(part.master.value(), part.term, tuple(self._members))
        self._clear()
        return message

    def _add_untrusted(self, part: _GroupPart | _HandoverPart) -> None:
        if part.part != self._received + 1 or part.part > part.parts:
            raise BadPacket(f"part {part.part} of {part.parts} comes after part {self._received}")
        if self._first is None:
            self._first = part
        elif (part.term, part.master, part.parts) != (self._first.term, self._first.master, self._first.parts):
            raise BadPacket("the parts of one message disagree")
        self._received += 1
        self._members += [member.value() for member in part.members]
        _check_list_untrusted("members", [member.id for member in self._members])

    def _clear(self) -> None:
        self._first = None
        self._received = 0
        self._members = []
        self._succession = []


def _check_list_untrusted(name: str, ids: list[str]) -> None:
    if len(ids) > MAX_MEMBERS:
        raise BadPacket(f"{name} lists more than {MAX_MEMBERS} nodes")
    if len(set(ids)) < len(ids):
        raise BadPacket(f"{name} lists a node twice")


def _member_fields(members: Sequence[Member]) -> tuple[ListedMember, ...]:
    if len({member.id for member in members}) < len(members):
        raise ValueError("a node is twice among the members")
    return tuple(ListedMember.of(member) for member in members)


def _shares[Item: (ListedMember, ListedMember | str)](items: Sequence[Item], room: int) -> list[tuple[Item, ...]]:
    """Cut `items` into runs whose JSON, with a comma after each, takes at most `room` bytes."""
    shares: list[tuple[Item, ...]] = []
    share: list[Item] = []
    used = 0
    for item in items:
        # A node id stands between two quotes.
        size = (len(item) + 2 if isinstance(item, str) else len(item.encode())) + 1
        if used + size > room:
            shares.append(tuple(share))
            share, used = [], 0
        share.append(item)
        used += size
    shares.append(tuple(share))
    return shares
