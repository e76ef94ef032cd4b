"""Nodes of two versions in one group: an old one, and a later one that an operator may install and remove at any time.

The old version speaks protocol level 1 only. The later one speaks levels 1 and 2, and does what a later version may do:
its JSON packets have unknown fields, there are optional packets of unknown types between its packets, reserved bytes
and bits are set, and its persisted state has a longer tail.
"""

import json
from dataclasses import replace
from random import Random
from typing import Any

from pskkey.model import Levels, SavedState
from pskkey.wire.frame import HEADER_SIZE, MAX_PAYLOAD, OPTIONAL_TYPES, PacketType, encode_frame
from pskkey.wire.saved import decode_saved_untrusted, encode_saved
from tests.sim.host import Host

OLD, LATER = Levels(1, 1), Levels(1, 2)
LATER_SHARE = 0.5
"""The probability that a daemon that starts is of the later version."""

EXTRA_SHARE = 0.3
"""The probability of an optional packet before a packet of the later version."""

_TAIL = 17
"""Bytes of the tail of a persisted state, without its size."""

_STATE_HEAD, _STATE_ENTRY = 36, 136
"""Bytes of KEY_STATE: before the entries, and of an entry."""


class Versions:
    """The versions of the hosts, and the bytes that the later one sends and saves."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._later: set[Host] = set()

    def install(self, host: Host) -> None:
        """Install one of the versions on a host whose daemon is about to start."""
        is_later = self._random.random() < LATER_SHARE
        (self._later.add if is_later else self._later.discard)(host)
        version, speaks = ("0.2.0", LATER) if is_later else ("0.1.0", OLD)
        host.member = replace(host.member, version=version, speaks=speaks)

    def sent(self, host: Host, data: bytes) -> bytes:
        """Return the bytes that a host sends in place of `data`, one or more packets."""
        if host not in self._later:
            return data
        sent = b""
        while data:
            if self._random.random() < EXTRA_SHARE:
                sent += self._optional_packet()
            end = HEADER_SIZE + int.from_bytes(data[2:4])
            kind, payload, data = data[1], data[HEADER_SIZE:end], data[end:]
            extended = self._extended(kind, payload)
            # A real later version would cut its own lists to fit.
            sent += encode_frame(kind, extended if len(extended) <= MAX_PAYLOAD else payload)
        return sent

    def saved(self, host: Host, state: SavedState) -> SavedState:
        """Return the state that the next process of a host reads, of whatever version."""
        encoded = bytes(encode_saved(state))
        if host in self._later:
            more = self._random.randbytes(self._random.randrange(100))
            rest, known = encoded[: -_TAIL - 4], encoded[-_TAIL:]
            encoded = rest + (_TAIL + len(more)).to_bytes(4) + known + more
        return decode_saved_untrusted(encoded)

    def _optional_packet(self) -> bytes:
        return encode_frame(self._random.choice(OPTIONAL_TYPES), self._random.randbytes(self._random.randrange(60)))

    def _extended(self, kind: int, payload: bytes) -> bytes:
        if kind == PacketType.KEY_STATE:
            return self._with_reserved_bits(payload)
        if payload.startswith(b"{"):
            return json.dumps(self._with_more_fields(json.loads(payload))).encode()
        return payload

    def _with_reserved_bits(self, payload: bytes) -> bytes:
        changed = bytearray(payload)
        changed[1] |= self._random.randrange(256) & 0xFE
        changed[3] = self._random.randrange(256)
        for at in range(_STATE_HEAD, len(payload), _STATE_ENTRY):
            changed[at + 4] |= self._random.randrange(256) & 0xF8
            changed[at + 5 : at + 8] = self._random.randbytes(3)
        return bytes(changed)

    def _with_more_fields(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._with_more_fields(each) for each in value]
        if not isinstance(value, dict):
            return value
        more: dict[str, Any] = {
            f"later{self._random.randrange(9)}": self._random.choice((None, 1, "x", [], [{"a": [1.5]}], {"b": {}}))
        }
        return {**more, **{name: self._with_more_fields(each) for name, each in value.items()}}
