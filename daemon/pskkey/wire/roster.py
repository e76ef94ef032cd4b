"""GROUP, GROUP_CHANGE and HANDOVER, the packets that may list a whole group and then need several frames.

Each frame is a JSON object with `part` (from 1) of `parts`. It repeats the fields that are not lists, and has its share
of the lists: members first, then the succession, or the members that have left. GROUP_CHANGE goes to all members, so it
has no field that has its default. No other packet may come between the frames of one message. Encoders
raise ValueError for a value out of bounds; `RosterReader` raises only BadPacket.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal

from pydantic import FailFast, Field, StringConstraints

from pskkey.errors import BadPacket
from pskkey.model import MAX_KEY_AGE, MAX_MEMBERS, Group, GroupChange, Handover, Member
from pskkey.wire.fields import (
    Epoch,
    Fingerprint,
    Level,
    ListedMember,
    NodeId,
    Packet,
    Port,
    Priority,
    SenderId,
    Term,
    TimesFields,
)
from pskkey.wire.frame import MAX_PAYLOAD, PacketType
from pskkey.wire.keymsg import decode_sender_bitmap_untrusted, encode_sender_bitmap

MAX_PARTS: Final = 128
"""Frames of one message: enough for the most members with every field at its bound."""

NAMES_OF_LISTS: Final = len(',"members":[],"left":[]')
"""Bytes that the lists of a GROUP_CHANGE need besides their items. A part without items has none of them."""

MAX_NUMBER: Final = 2**53 - 1

DEFAULT_PORT: Final = 11111
"""The TCP port that GROUP_CHANGE leaves out."""

_PartNumber = Annotated[int, Field(ge=1, le=MAX_PARTS)]
_Members = Annotated[tuple[ListedMember, ...], Field(strict=False, max_length=MAX_MEMBERS), FailFast()]
_ChangedMembers = Annotated[tuple["_ChangedMember", ...], Field(strict=False, max_length=MAX_MEMBERS), FailFast()]
_Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
_SenderBitmap = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
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


class _Short(Packet):
    """A packet, or a part of one, without the fields that have their defaults."""

    def encode(self) -> bytes:
        """Return compact JSON in UTF-8."""
        return self.model_dump_json(exclude_defaults=True).encode()


class _ChangedMember(_Short, ListedMember):
    """A member as GROUP_CHANGE lists it."""

    port: Port = DEFAULT_PORT
    priority: Priority = 100
    eligible: bool = True
    sender_id: SenderId | None = None
    acked_epoch: Epoch | None = None


class _ChangePart(_Short):
    term: Term
    number: _Number
    base: _Number = 0
    knows: Fingerprint | Literal[""] = ""
    master: NodeId | None = None
    part: _PartNumber = 1
    parts: _PartNumber = 1
    members: _ChangedMembers = ()
    left: _Succession = ()
    times: TimesFields | None = None
    level: Level | None = None
    senders: _SenderBitmap | None = None
    key_age: Annotated[int, Field(ge=0, le=MAX_KEY_AGE)] = 0
    known_outside: Fingerprint | Literal[""] = ""
    has_keys: bool = False


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

    return _in_frames(part, (*members, *message.succession))


def encode_handover(message: Handover) -> list[bytes]:
    """Return the payloads of a HANDOVER, one for each frame, to be sent in this order."""
    master = ListedMember.of(message.master)
    members = _member_fields(message.members)

    def part(number: int, count: int, share: Sequence[ListedMember | str]) -> bytes:
        listed = tuple(item for item in share if isinstance(item, ListedMember))
        return _HandoverPart(term=message.term, master=master, part=number, parts=count, members=listed).encode()

    return _in_frames(part, members)


def encode_group_change(message: GroupChange) -> list[bytes]:
    """Return the payloads of a GROUP_CHANGE, one for each frame, to be sent in this order."""
    members = tuple(_ChangedMember.of(member) for member in message.members)
    _check_twice([member.id for member in members])
    if len(set(message.left)) < len(message.left):
        raise ValueError("a node is twice among those that have left")
    times = None if message.times is None else TimesFields.model_validate(message.times, from_attributes=True)
    senders = None if message.senders is None else encode_sender_bitmap(message.senders).hex()

    def part(number: int, count: int, share: Sequence[ListedMember | str]) -> bytes:
        return _ChangePart(
            term=message.term,
            number=message.number,
            base=message.base,
            knows=message.knows,
            master=message.master,
            part=number,
            parts=count,
            members=tuple(item for item in share if isinstance(item, _ChangedMember)),
            left=tuple(item for item in share if isinstance(item, str)),
            times=times,
            level=message.level,
            senders=senders,
            key_age=message.key_age,
            known_outside=message.known_outside,
            has_keys=message.has_keys,
        ).encode()

    return _in_frames(part, (*members, *message.left))


class RosterReader:
    """Joins the frames of a GROUP, GROUP_CHANGE or HANDOVER, holding no more than the most members of one message."""

    def __init__(self) -> None:
        self._first: _GroupPart | _ChangePart | _HandoverPart | None = None
        self._received = 0
        self._members: list[Member] = []
        self._succession: list[str] = []

    @property
    def unfinished(self) -> PacketType | None:
        """The type of the message whose last frame is still missing: only its next frame may come now."""
        match self._first:
            case None:
                return None
            case _GroupPart():
                return PacketType.GROUP
            case _ChangePart():
                return PacketType.GROUP_CHANGE
            case _HandoverPart():
                return PacketType.HANDOVER

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

    def receive_change_untrusted(self, payload: bytes) -> GroupChange | None:
        """Take the next frame of a GROUP_CHANGE; return the message when it was the last one."""
        part = _ChangePart.parse_untrusted(payload)
        self._add_untrusted(part)
        self._succession += part.left
        _check_list_untrusted("left", self._succession)
        if self._received < part.parts:
            return None
        message = GroupChange(
            term=part.term,
            number=part.number,
            base=part.base,
            knows=part.knows,
            master=part.master,
            members=tuple(self._members),
            left=tuple(self._succession),
            times=None if part.times is None else part.times.value(),
            level=part.level,
            senders=None if part.senders is None else decode_sender_bitmap_untrusted(bytes.fromhex(part.senders)),
            key_age=part.key_age,
            known_outside=part.known_outside,
            has_keys=part.has_keys,
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

    def _add_untrusted(self, part: _GroupPart | _ChangePart | _HandoverPart) -> None:
        if part.part != self._received + 1 or part.part > part.parts:
            raise BadPacket(f"part {part.part} of {part.parts} comes after part {self._received}")
        if self._first is None:
            self._first = part
        elif _repeated(part) != _repeated(self._first):
            raise BadPacket("the parts of one message disagree")
        self._received += 1
        self._members += [member.value() for member in part.members]
        _check_list_untrusted("members", [member.id for member in self._members])

    def _clear(self) -> None:
        self._first = None
        self._received = 0
        self._members = []
        self._succession = []


def _repeated(part: _GroupPart | _ChangePart | _HandoverPart) -> dict[str, object]:
    """Return the fields that are the same in all parts of one message."""
    return {name: value for name, value in part if name not in ("part", "members", "succession", "left")}


def _check_list_untrusted(name: str, ids: list[str]) -> None:
    if len(ids) > MAX_MEMBERS:
        raise BadPacket(f"{name} lists more than {MAX_MEMBERS} nodes")
    if len(set(ids)) < len(ids):
        raise BadPacket(f"{name} lists a node twice")


def _member_fields(members: Sequence[Member]) -> tuple[ListedMember, ...]:
    _check_twice([member.id for member in members])
    return tuple(ListedMember.of(member) for member in members)


def _check_twice(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        raise ValueError("a node is twice among the members")


def _in_frames(
    part: Callable[[int, int, Sequence[ListedMember | str]], bytes], items: Sequence[ListedMember | str]
) -> list[bytes]:
    """Return the payloads that `part` makes of its number, the count of parts, and its share of the items."""
    whole = part(1, 1, items)
    if len(whole) <= MAX_PAYLOAD:
        return [whole]
    shares = _shares(items, MAX_PAYLOAD - len(part(MAX_PARTS, MAX_PARTS, ())) - NAMES_OF_LISTS)
    return [part(number, len(shares), share) for number, share in enumerate(shares, 1)]


def _shares(items: Sequence[ListedMember | str], room: int) -> list[tuple[ListedMember | str, ...]]:
    """Cut `items` into runs whose JSON, with a comma after each, takes at most `room` bytes."""
    shares: list[tuple[ListedMember | str, ...]] = []
    share: list[ListedMember | str] = []
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
