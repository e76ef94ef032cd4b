"""The packets between nodes that fit one frame: JOIN, MERGE and ERROR, as JSON.

Every field has a bound. Decoders raise only BadPacket; encoders check the same bounds and raise ValueError.
"""

import re
from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import FailFast, Field

from pskkey.errors import BadPacket, NoCommonLevel
from pskkey.model import MAX_EPOCH, MAX_KEY_ENTRIES, MAX_MEMBERS, SPEAKS, ErrorMessage, HeldKey, Join, Levels, Merge
from pskkey.wire.fields import (
    LEVEL_1,
    MAX_LEVEL,
    Epoch,
    Fingerprint,
    MemberFields,
    NodeId,
    Packet,
    SenderId,
    Speaks,
    Term,
    Text,
    TimesFields,
    Version,
)
from pskkey.wire.strict_json import decode_object_untrusted

MAX_SIZE: Final = 8192
"""Bytes of the largest payload here: a payload with every field at its bound, four bytes a character, is smaller."""

MAX_ERROR_TEXT: Final = 1024
UNKNOWN_CODE: Final = "unknown"
_CODE: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)


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
    knows: Fingerprint | Literal[""] | None = None


class _MergeFields(Packet):
    master: MemberFields
    term: Term
    members: Annotated[int, Field(ge=0, le=MAX_MEMBERS)]
    epoch: Annotated[int, Field(ge=0, le=MAX_EPOCH)]
    winner: NodeId | None
    version: Version = ""
    speaks: Speaks = LEVEL_1


class _ErrorFields(Packet):
    code: str
    message: str


def encode_join(message: Join) -> bytes:
    """Return the payload of a JOIN."""
    return _JoinFields.model_validate(message, from_attributes=True).encode()


def decode_join_untrusted(payload: bytes) -> Join:
    """Read a JOIN."""
    fields = _parse_untrusted(_JoinFields, payload)
    return Join(
        group=fields.group,
        member=replace(fields.member.value(), version=fields.version, speaks=Levels(*fields.speaks)),
        incarnation=fields.incarnation,
        term=fields.term,
        held=tuple(HeldKey(key.epoch, key.fingerprint, key.send) for key in fields.held),
        sender=fields.sender,
        lease=fields.lease,
        times=fields.times.value(),
        knows=fields.knows,
    )


def encode_merge(message: Merge) -> bytes:
    """Return the payload of a MERGE."""
    return _MergeFields.model_validate(message, from_attributes=True).encode()


def decode_merge_untrusted(payload: bytes) -> Merge:
    """Read a MERGE."""
    fields = _parse_untrusted(_MergeFields, payload)
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
    if _CODE.fullmatch(message.code) is None:
        raise ValueError(f"a code of ERROR has other characters than {message.code!a}")
    return _ErrorFields(code=message.code, message=_clean(message.message)).encode()


def decode_error_untrusted(payload: bytes) -> ErrorMessage:
    """Read an ERROR. Its reason must not get lost: a code of another form is UNKNOWN_CODE, and any text is cleaned."""
    fields = _ErrorFields.parse_untrusted(payload)
    code = fields.code if _CODE.fullmatch(fields.code) is not None else UNKNOWN_CODE
    return ErrorMessage(code, _clean(fields.message))


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_ERROR_TEXT])


def _parse_untrusted[Fields: Packet](kind: type[Fields], payload: bytes) -> Fields:
    """Read the fields of a JOIN or MERGE. Raises NoCommonLevel for a bad one that names only levels of other versions.

    The levels are compared first in effect, because a version without a level in common may have another form.
    """
    values = decode_object_untrusted(payload)
    try:
        return kind.of_untrusted(values)
    except BadPacket:
        match values.get("speaks"):
            case [int(lowest), int(highest)] if 1 <= lowest <= highest <= MAX_LEVEL:
                if (levels := Levels(lowest, highest)).common(SPEAKS) is None:
                    text = f"a node that speaks {levels} cannot be in a group with one that speaks {SPEAKS}"
                    raise NoCommonLevel(f"{text}: there is no common level") from None
        raise
