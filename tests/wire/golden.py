"""Golden packets: what a release sends and saves, in files that every later version must read.

    python -m tests.wire.golden RELEASE

writes `tests/vectors/wire-RELEASE`, once for each release. Each entry has the bytes in hex and the value that they
stand for: the fields of the dataclass, with bytes in hex and enumerations by name. A later version may know more fields
than an old release: a test compares those that the entry has.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pskkey.errors import BadPacket
from pskkey.model import (
    Advert,
    ErrorMessage,
    Group,
    GroupChange,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    Key,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Member,
    Merge,
    Message,
    Role,
    SavedKey,
    SavedLease,
    SavedManager,
    SavedRing,
    SavedState,
    Slot,
    Suite,
    Times,
)
from pskkey.secret import Secret
from pskkey.wire.advert import advert_key, encode_advert
from pskkey.wire.frame import HEADER_SIZE, PacketType, encode_frame
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from pskkey.wire.saved import encode_saved
from tests.quality.tracked import ROOT

VECTORS: Final = ROOT / "tests" / "vectors"
PSK: Final = Secret(bytes(range(100, 132)))
"""The pre-shared key that has signed the adverts. It was never anything but an example."""

_IDS: Final = ("00112233445566778899aabbccddeeff", "0123456789abcdef", "fedcba98")
_KEYS: Final = tuple(
    Key(
        Secret(bytes((first + n) % 256 for n in range(48)) + bytes(16)),
        bytes((first + 64 + n) % 256 for n in range(32)),
        bytes((first + 96 + n) % 256 for n in range(32)),
        suite,
    )
    for first, suite in ((0, Suite.PSK_CHACHA20_POLY1305), (7, Suite.WDM_WITH_NULL_SHA256), (200, Suite(0xCCAB)))
)
_MASTER: Final = Member(_IDS[0], "pump-1", ("10.0.0.1", "fe80::1"), 11111, 200, True, 4, 7, "0.1.0")
_CLIENT: Final = Member(_IDS[1], "Ventil Süd", (), 4711, 0, False, None, None, "0.1.0")
_OTHER: Final = Member(_IDS[2], "x" * 250, ("2001:db8::1",) * 8, 65535, 255, True, 255, 65535, "0.1.0")
_TIMES: Final = Times(0.25, 2.0)

MESSAGES: Final[Mapping[str, Sequence[Message]]] = {
    "KEY_REQ": [KeyRequest()],
    "KEY_REQ response": [KeyResponse(_KEYS[0]), KeyResponse(_KEYS[1], 300)],
    "KEY_WATCH": [
        KeyWatch(will_send=False),
        KeyWatch(will_send=True),
        KeyWatch(will_send=True, context=2**64 - 2),
        KeyWatch(will_send=False, context=7, level=3),
    ],
    "KEY_STATE": [
        KeyState(None, frozenset(), ()),
        KeyState(0, frozenset({0, 9, 255}), (KeyEntry(1, _KEYS[0], send=True),)),
        KeyState(
            255,
            frozenset(range(256)),
            (
                KeyEntry(65535, _KEYS[0], send=False),
                KeyEntry(1, _KEYS[1], send=True),
                KeyEntry(2, _KEYS[2], send=False, unused=True),
            ),
        ),
    ],
    "KEY_ACK": [KeyAck(1), KeyAck(65535)],
    "KEY_NEW": [KeyNew(reason) for reason in KeyNewReason],
    "JOIN": [
        Join("default", _CLIENT, "5f2c", 0, (), sender=False, lease=None, times=_TIMES),
        Join(
            "Anlage 7",
            _OTHER,
            "i" * 250,
            2**53 - 1,
            (HeldKey(7, "0f" * 8, send=True),),
            sender=True,
            lease=255,
            knows="0f" * 8,
        ),
    ],
    "GROUP": [
        Group(3, _MASTER.id, (_MASTER,), (), _TIMES, key_age=86400, known_outside="0f" * 8),
        Group(2**53 - 1, _MASTER.id, (_MASTER, _CLIENT, _OTHER), (_OTHER.id,)),
    ],
    "GROUP_CHANGE": [
        GroupChange(3, 1, 0, "", _MASTER.id, (_MASTER,), (), _TIMES, 1, None, 86400, "0f" * 8, has_keys=True),
        GroupChange(
            3, 2**53 - 1, 2**53 - 2, members=(_CLIENT, _OTHER), left=(_IDS[2],), senders=frozenset({0, 9, 255})
        ),
    ],
    "HEARTBEAT": [Heartbeat()],
    "MERGE": [Merge(_MASTER, 3, 12, 7), Merge(_OTHER, 3, 1, 0, _MASTER.id)],
    "HANDOVER": [Handover(_CLIENT, 4), Handover(_OTHER, 4, (_MASTER, _OTHER))],
    "ERROR": [ErrorMessage("not_master", "pump-1 is not the master now"), ErrorMessage("version", "Straße")],
}

ADVERTS: Final = (
    Advert("default", _IDS[0], "pump-1", 200, True, Role.MASTER, 7, 3, ("10.0.0.1", "fe80::1"), 11111),
    Advert("Anlage 7", _IDS[1], "Ventil Süd", 0, False, Role.LISTENING, 0, 1, (), 4711, challenge="abc-_9"),
    Advert("g", _IDS[2], "n", 255, True, Role.MASTER, 2**53 - 1, 4096, (), 1, is_full=True, answers=("a", "b")),
)

STATES: Final = (
    SavedState("default", _IDS[0], "5f2c", 0),
    SavedState(
        "Anlage 7",
        _IDS[1],
        "0123456789abcdef",
        2**53 - 1,
        SavedRing(
            tuple(SavedKey(n + 1, _KEYS[n], slot, 1.5 * n) for n, slot in enumerate(Slot)),
            SavedLease(9, frozenset({0, 9, 255})),
            (SavedKey(65535, _KEYS[1], Slot.CURRENT, 86400.25),),
            SavedLease(None, frozenset({3})),
            _KEYS[2].fingerprint,
        ),
        ((_IDS[0], 0), (_IDS[1], None)),
        (("0f" * 8, 2**64 - 1), ("a1" * 8, 0)),
        (SavedManager(7, asked_to_send=True, acknowledges=False), SavedManager(8, False, True)),
        123.5,
    ),
)


def describe(value: object) -> Any:
    """Return a value as JSON that shows each of its fields, also the secret ones."""
    match value:
        case Secret():
            return value.reveal().hex()
        case bytes():
            return value.hex()
        case Enum():
            return value.name
        case frozenset():
            return sorted(value)
        case tuple() | list():
            return [describe(each) for each in value]
        case _ if is_dataclass(value):
            return {each.name: describe(getattr(value, each.name)) for each in fields(value)}
    return value


def list_readers(message: Message) -> list[tuple[str, str]]:
    """Return the channels, with the end of the connection, on which a message is read."""
    stream = encode(message)
    found = []
    for channel in Channel:
        for side in Side:
            with suppress(BadPacket):
                if PacketReader(channel, side).receive_untrusted(stream) == [message]:
                    found.append((channel.value, side.value))
    return found


def main(release: str) -> None:
    """Write the golden packets of this version. Raises FileExistsError if the release has them already."""
    directory = VECTORS / f"wire-{release}"
    directory.mkdir(parents=True)
    key = advert_key(PSK)
    packets = [_describe_split_group()]
    packets += [
        {"name": name, "readers": list_readers(message), "bytes": encode(message).hex(), "value": describe(message)}
        for name, messages in MESSAGES.items()
        for message in messages
    ]
    adverts = [{"pairs": encode_advert(advert, key), "value": describe(advert)} for advert in ADVERTS]
    states = [{"bytes": encode_saved(state).hex(), "value": describe(state)} for state in STATES]
    for name, entries in (("packets", packets), ("adverts", adverts), ("saved_states", states)):
        _write(directory / f"{name}.json", entries)


def _describe_split_group() -> dict[str, Any]:
    """Return the entry of a GROUP in two frames, as a large group needs them."""
    group = Group(3, _MASTER.id, (_MASTER, _CLIENT), (_CLIENT.id,), _TIMES)
    whole = json.loads(encode(group)[HEADER_SIZE:])
    shares = [{"members": whole["members"][:1], "succession": []}, {**whole, "members": whole["members"][1:]}]
    parts = [{**whole, **share, "part": number, "parts": 2} for number, share in enumerate(shares, 1)]
    stream = b"".join(encode_frame(PacketType.GROUP, json.dumps(part).encode()) for part in parts)
    readers = [(Channel.TLS.value, Side.CLIENT.value)]
    return {"name": "GROUP in two frames", "readers": readers, "bytes": stream.hex(), "value": describe(group)}


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    path.write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or re.fullmatch(r"\d+\.\d+\.\d+", sys.argv[1]) is None:
        sys.exit("usage: python -m tests.wire.golden RELEASE, for example 0.1.0")
    main(sys.argv[1])
