"""The frame that carries every packet, on TLS-PSK and on `keys.sock` alike.

Layout (4 bytes, then the payload):

    0      version  u8, always 1
    1      type     u8, a `PacketType`; packets from 128 on are optional: a reader skips those of unknown types
    2..3   size     u16 big-endian, bytes of payload
    4..    payload
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from pskkey.errors import BadPacket

VERSION: Final = 1
MAX_PAYLOAD: Final = 0xFFFF
_HEADER: Final = struct.Struct("!BBH")
HEADER_SIZE: Final = _HEADER.size


OPTIONAL_TYPES: Final = range(0x80, 0x100)
"""The types that later versions may add without a new protocol level."""

OPTIONAL_LIMIT: Final = 8192
"""Bytes of the largest payload of a packet that is skipped."""


class PacketType(IntEnum):
    """The type of the packet in a frame. Types 1-15 are packed structs that C programs read, types from 16 are JSON."""

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
    GROUP_CHANGE = 21
    ERROR = 31


@dataclass(frozen=True, slots=True)
class Frame:
    """One received frame: `type` 0..255 and a payload of at most 65535 bytes, which may be a key."""

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
    """Cuts a byte stream into frames, one at a time.

    `limits` names the types of this stream and the largest payload of each, in bytes. Other optional types have
    OPTIONAL_LIMIT, and the caller skips their frames. A header that announces anything else is refused without waiting
    for its payload. So the reader keeps less than one header and the largest limit after `next_untrusted` has returned
    None.
    """

    def __init__(self, limits: Mapping[int, int]) -> None:
        self._limits = limits
        self._pending = bytearray()
        self._next_size: int | None = None
        """Bytes of the next frame, with its header. None: the header is not whole, or is refused."""
        self._error: str | None = None

    @property
    def ready(self) -> bool:
        """Whether `next_untrusted` has something to do: the next frame is whole, or must be refused."""
        is_whole = self._next_size is not None and len(self._pending) >= self._next_size
        return is_whole or self._error is not None

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream, in pieces of any size."""
        if self._error is None:
            self._pending += data
            self._read_header()

    def next_untrusted(self) -> Frame | None:
        """Return the next frame, None while it is not whole.

        Raises BadPacket when the stream breaks the protocol. It cannot be trusted from there on, so every later call
        raises again.
        """
        if self._error is not None:
            raise BadPacket(self._error)
        size = self._next_size
        if size is None or len(self._pending) < size:
            return None
        frame = Frame(self._pending[1], bytes(self._pending[HEADER_SIZE:size]))
        del self._pending[:size]
        self._next_size = None
        self._read_header()
        return frame

    def receive_untrusted(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return all frames that they complete.

        Raises BadPacket as `next_untrusted` does; frames that came before the fault in the same piece are lost.
        """
        self.add(data)
        frames: list[Frame] = []
        while (frame := self.next_untrusted()) is not None:
            frames.append(frame)
        return frames

    def _read_header(self) -> None:
        if self._next_size is not None or len(self._pending) < HEADER_SIZE:
            return
        version, packet_type, size = _HEADER.unpack_from(self._pending)
        limit = self._limits.get(packet_type, OPTIONAL_LIMIT if packet_type in OPTIONAL_TYPES else None)
        if version != VERSION:
            self._refuse(f"version {version} is not supported, only {VERSION}")
        elif limit is None:
            self._refuse(f"a packet of type {packet_type} is not allowed here")
        elif size > limit:
            self._refuse(f"a packet of type {packet_type} announces {size} bytes, at most {limit} are allowed")
        else:
            self._next_size = HEADER_SIZE + size

    def _refuse(self, reason: str) -> None:
        self._error = reason
        self._pending.clear()
