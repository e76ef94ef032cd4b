"""The packets between nodes that fit one frame: JOIN, MERGE and ERROR, as JSON.

Every field has a bound. Decoders raise only BadPacket; encoders check the same bounds and raise ValueError.
"""

from dataclasses import replace
from typing import Annotated, Final

from pydantic import AfterValidator, FailFast, Field, StringConstraints

from pskkey.model import MAX_EPOCH, MAX_KEY_ENTRIES, ErrorMessage, HeldKey, Join, Levels, Merge
from pskkey.wire.fields import (
    LEVEL_1,
    MAX_MEMBERS,
    Epoch,
    MemberFields,
    NodeId,
    Packet,
    SenderId,
    Speaks,
    Term,
    Text,
    TimesFields,
    Version,
    check_printable,
)

MAX_SIZE: Final = 8192
"""Bytes of the largest payload here: a payload with every field at its bound, four bytes a character, is smaller."""

MAX_ERROR_TEXT: Final = 1024


Fingerprint = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{16}\z")]


class _HeldKeyFields(Packet):
    epoch: Epoch
    fingerprint: Fingerprint
    send: bool


class _JoinFields(Packet):
    group: Text
    member: MemberFields
    incarnation: Text
    term: Term
    held: Annotated[tuple[_HeldKeyFields, ...], Field(strict=False, max_length=MAX_KEY_ENTRIES), FailFast()]
    sender: bool
    lease: SenderId | None
    version: Version
    speaks: Speaks = LEVEL_1
    times: TimesFields


class _MergeFields(Packet):
    master: MemberFields
    term: Term
    members: Annotated[int, Field(ge=0, le=MAX_MEMBERS)]
    epoch: Annotated[int, Field(ge=0, le=MAX_EPOCH)]
    winner: NodeId | None
    version: Version = ""
    speaks: Speaks = LEVEL_1


class _ErrorFields(Packet):
    code: Annotated[str, StringConstraints(pattern=r"\A[a-z][a-z0-9_-]{0,63}\z")]
    message: Annotated[str, StringConstraints(max_length=MAX_ERROR_TEXT), AfterValidator(check_printable)]


def encode_join(message: Join) -> bytes:
    """Return the payload of a JOIN."""
    return _JoinFields.model_validate(message, from_attributes=True).encode()


def decode_join_untrusted(payload: bytes) -> Join:
    """Read a JOIN."""
    fields = _JoinFields.parse_untrusted(payload)
    return Join(
        group=fields.group,
        member=replace(fields.member.value(), version=fields.version, speaks=Levels(*fields.speaks)),
        incarnation=fields.incarnation,
        term=fields.term,
        held=tuple(HeldKey(key.epoch, key.fingerprint, key.send) for key in fields.held),
        sender=fields.sender,
        lease=fields.lease,
        times=fields.times.value(),
    )


def encode_merge(message: Merge) -> bytes:
    """Return the payload of a MERGE."""
    return _MergeFields.model_validate(message, from_attributes=True).encode()


def decode_merge_untrusted(payload: bytes) -> Merge:
    """Read a MERGE."""
    fields = _MergeFields.parse_untrusted(payload)
    return Merge(
        master=replace(fields.master.value(), version=fields.version, speaks=Levels(*fields.speaks)),
        term=fields.term,
        members=fields.members,
        epoch=fields.epoch,
        winner=fields.winner,
    )


def encode_error(message: ErrorMessage) -> bytes:
    """Return the payload of an ERROR. Its sentence is made printable and cut to 1024 characters.

    Raises ValueError when the code is not 1..64 lowercase letters, digits, `_` and `-`, a letter first.
    """
    sentence = "".join(char if char.isprintable() else "?" for char in message.message[:MAX_ERROR_TEXT])
    return _ErrorFields(code=message.code, message=sentence).encode()


def decode_error_untrusted(payload: bytes) -> ErrorMessage:
    """Read an ERROR."""
    fields = _ErrorFields.parse_untrusted(payload)
    return ErrorMessage(fields.code, fields.message)
