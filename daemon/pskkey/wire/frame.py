"""The frame that carries every packet, on TLS-PSK and on `keys.sock` alike.

Layout (4 bytes, then the payload):

    0      version  u8, always 1
    1      type     u8, a `PacketType`
    2..3   size     u16 big-endian, bytes of payload
    4..    payload
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from pskkey.errors import BadPacket

VERSION: Final = 1
MAX_PAYLOAD: Final = 0xFFFF
_HEADER: Final = struct.Struct("!BBH")
HEADER_SIZE: Final = _HEADER.size


class PacketType(IntEnum):
    """What a frame holds. Types 1-15 are packed structs that C programs read, types from 16 are JSON."""

    KEY_REQ = 1
    KEY_WATCH = 2
    KEY_STATE = 3
    KEY_ACK = 4
    KEY_NEW = 5
    JOIN = 16
    GROUP = 17
    HEARTBEAT = 18
    MERGE = 19
    HANDOVER = 20
    ERROR = 31


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came: `type` 0..255 and a payload of at most 65535 bytes, which may be a key."""

    type: int
    payload: bytes = field(repr=False)


def encode_frame(type: int, payload: bytes) -> bytes:  # noqa: A002  the protocol's own word
    """Return header and payload. Raises ValueError when the type or the payload does not fit its field."""
    if not 0 <= type <= 0xFF:
        raise ValueError(f"a packet type is 0..255, not {type}")
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload is at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return _HEADER.pack(VERSION, type, len(payload)) + payload


class FrameReader:
    """Cuts a byte stream into frames.

    `limits` names every type that is allowed on this stream and the largest payload of each, in bytes. A header that
    announces anything else is refused before a byte of its payload is kept, so that the reader never holds more than
    one header and the largest limit.
    """

    def __init__(self, limits: Mapping[int, int]) -> None:
        self._limits = dict(limits)
        self._pending = bytearray()
        self._error: str | None = None

    def receive_untrusted(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the stream, in pieces of any size, and return the frames that they complete.

        Raises BadPacket when the stream breaks the protocol. It cannot be trusted from there on, so every later call
        raises again; frames before the fault that came in the same piece are given up with it.
        """
        return list(self.each_untrusted(data))

    def each_untrusted(self, data: bytes) -> Iterator[Frame]:
        """Do as `receive_untrusted` does, but yield each frame before the header of the next one is judged."""
        if self._error is not None:
            raise BadPacket(self._error)
        rest = memoryview(data)
        while rest or self._pending:
            wanted = HEADER_SIZE
            if len(self._pending) >= HEADER_SIZE:
                wanted += self._payload_size_untrusted()
            missing = wanted - len(self._pending)
            self._pending += rest[:missing]
            rest = rest[missing:]
            if len(self._pending) < wanted:
                break
            if wanted == HEADER_SIZE and self._payload_size_untrusted() > 0:
                continue
            frame = Frame(self._pending[1], bytes(self._pending[HEADER_SIZE:]))
            self._pending.clear()
            yield frame

    def _payload_size_untrusted(self) -> int:
        version, packet_type, size = _HEADER.unpack_from(self._pending)
        if version != VERSION:
            self._refuse(f"version {version} is not spoken here, only {VERSION}")
        limit = self._limits.get(packet_type)
        if limit is None:
            self._refuse(f"a packet of type {packet_type} has no place here")
        elif size > limit:
            self._refuse(f"a packet of type {packet_type} announces {size} bytes, at most {limit} are allowed")
        return int(size)

    def _refuse(self, reason: str) -> None:
        self._error = reason
        self._pending.clear()
        raise BadPacket(reason)
