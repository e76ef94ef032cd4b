"""The packets that C programs read: types 1 to 5, packed structs, every number big-endian.

    KEY_REQ    request: empty
               response: a 128-byte key, or 132 bytes: epoch u16 | key[128] | suite[2]
    KEY_WATCH  flags u8 (bit 0: I will send)
               | the sender's sequence context u64, 0 without one; needed only if something follows or there is one
               | level u8, the highest level of these packets that the session manager understands; not needed for 1
               | up to 54 bytes of later levels
    KEY_STATE  0      sender_id  u8
               1      flags      u8 (bit 0: sender_id is leased to you)
               2      count      u8, entries that follow, 0..3
               3      reserved   u8
               4..35  senders    bitmap: sender id n is bit n % 8 (least significant first) of byte n // 8
               36..   entries, 136 bytes each:
                      0..1    epoch     u16, 1..65535
                      2..3    suite     TLS cipher suite number
                      4       flags     u8 (bit 0: send, bit 1: receive, bit 2: unused, nobody has sent with it yet)
                      5..7    reserved
                      8..135  key
    KEY_ACK    epoch u16, 1..65535
    KEY_NEW    reason u8: 1 operator, 2 sequence high-water, 3 sender restarted, 4 receiver began; else another reason

    key        128 bytes: pms[64] | server_random[32] | client_random[32]; the PMS is padded with zeros to its field

Reserved bytes and undefined flag bits are sent as zero and ignored when read, so that later versions can use them.
Decoders raise only BadPacket; encoders raise ValueError for a value that has no encoding.
"""

import struct
from typing import Final

from pskkey.errors import BadPacket
from pskkey.model import (
    MAX_EPOCH,
    MAX_KEY_ENTRIES,
    SENDER_IDS,
    Key,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Suite,
)
from pskkey.secret import Secret

_KEY: Final = struct.Struct("!64s32s32s")
_KEY_WITH_EPOCH: Final = struct.Struct("!H128s2s")
_STATE_HEAD: Final = struct.Struct("!BBBx32s")
_STATE_ENTRY: Final = struct.Struct("!HHB3x128s")
_EPOCH: Final = struct.Struct("!H")
_BYTE: Final = struct.Struct("!B")
_WATCH_WITH_CONTEXT: Final = struct.Struct("!BQ")
_WATCH_WITH_LEVEL: Final = struct.Struct("!BQB")

_WILL_SEND: Final = 0x01
_LEASED: Final = 0x01
_SEND: Final = 0x01
_RECEIVE: Final = 0x02
_UNUSED: Final = 0x04

KEY_RESPONSE_MAX_SIZE: Final = _KEY_WITH_EPOCH.size
KEY_WATCH_MAX_SIZE: Final = 64
KEY_STATE_MAX_SIZE: Final = _STATE_HEAD.size + MAX_KEY_ENTRIES * _STATE_ENTRY.size
MAX_WATCH_LEVEL: Final = 255
KEY_ACK_SIZE: Final = _EPOCH.size
KEY_NEW_SIZE: Final = _BYTE.size


def decode_key_request_untrusted(payload: bytes) -> KeyRequest:
    """Read the empty payload of a KEY_REQ."""
    if payload:
        raise BadPacket(f"KEY_REQ is empty, not {len(payload)} bytes")
    return KeyRequest()


def encode_key_response(message: KeyResponse) -> bytes:
    """Return 128 bytes, or 132 when the epoch is known. The cipher suite travels only in the long form."""
    if message.epoch is None:
        return _pack_key(message.key)
    suite = message.key.suite.to_bytes(2)
    return _KEY_WITH_EPOCH.pack(_checked_epoch(message.epoch), _pack_key(message.key), suite)


def decode_key_response_untrusted(payload: bytes) -> KeyResponse:
    """Read either form, by its size. The short form names no suite: the key has the default suite."""
    if len(payload) == _KEY.size:
        return KeyResponse(_unpack_key_untrusted(payload, Suite.PSK_CHACHA20_POLY1305))
    if len(payload) != _KEY_WITH_EPOCH.size:
        raise BadPacket(f"a KEY_REQ response is {_KEY.size} or {_KEY_WITH_EPOCH.size} bytes, not {len(payload)}")
    epoch, key, suite = _KEY_WITH_EPOCH.unpack(payload)
    _check_epoch_untrusted(epoch)
    return KeyResponse(_unpack_key_untrusted(key, _suite_untrusted(int.from_bytes(suite))), epoch)


def encode_key_watch(message: KeyWatch) -> bytes:
    """Return the shortest form. Raises ValueError when the level is not 1..255."""
    if not 1 <= message.level <= MAX_WATCH_LEVEL:
        raise ValueError(f"a level is 1..{MAX_WATCH_LEVEL}, not {message.level}")
    flags = _WILL_SEND if message.will_send else 0
    if message.level > 1:
        return _WATCH_WITH_LEVEL.pack(flags, message.context, message.level)
    return _WATCH_WITH_CONTEXT.pack(flags, message.context) if message.context else _BYTE.pack(flags)


def decode_key_watch_untrusted(payload: bytes) -> KeyWatch:
    """Read any form, by its size. Ignore the bytes of later levels at its end."""
    if len(payload) == _BYTE.size:
        return KeyWatch(will_send=bool(payload[0] & _WILL_SEND))
    if not _WATCH_WITH_CONTEXT.size <= len(payload) <= KEY_WATCH_MAX_SIZE:
        raise BadPacket(
            f"KEY_WATCH is {_BYTE.size} or {_WATCH_WITH_CONTEXT.size}..{KEY_WATCH_MAX_SIZE} bytes, not {len(payload)}"
        )
    size = _WATCH_WITH_LEVEL.size
    flags, context, level = _WATCH_WITH_LEVEL.unpack(payload[:size].ljust(size, b"\1"))
    return KeyWatch(bool(flags & _WILL_SEND), context, max(level, 1))


def encode_key_state(message: KeyState) -> bytes:
    """Return 36 bytes and 136 for each entry.

    Raises ValueError for more than three entries, an epoch or sender id out of range, an epoch listed twice, or more
    than one entry to send with.
    """
    epochs = [entry.epoch for entry in message.entries]
    if len(epochs) > MAX_KEY_ENTRIES or len(set(epochs)) < len(epochs):
        raise ValueError(f"a key state has at most {MAX_KEY_ENTRIES} entries of different epochs, not {epochs}")
    if sum(entry.send for entry in message.entries) > 1:
        raise ValueError("a key state has at most one entry to send with")
    bitmap = encode_sender_bitmap(message.senders)
    sender_id, flags = (0, 0) if message.sender_id is None else (_checked_sender(message.sender_id), _LEASED)
    parts = [_STATE_HEAD.pack(sender_id, flags, len(epochs), bitmap)]
    for entry in message.entries:
        flags = (_SEND if entry.send else 0) | (_RECEIVE if entry.receive else 0) | (_UNUSED if entry.unused else 0)
        parts.append(
            _STATE_ENTRY.pack(_checked_epoch(entry.epoch), entry.key.suite, flags, _pack_key(entry.key)),
        )
    return b"".join(parts)


def decode_key_state_untrusted(payload: bytes) -> KeyState:
    """Read a key state. Raises BadPacket also for each value that `encode_key_state` refuses."""
    if len(payload) < _STATE_HEAD.size:
        raise BadPacket(f"KEY_STATE is at least {_STATE_HEAD.size} bytes, not {len(payload)}")
    sender_id, flags, count, bitmap = _STATE_HEAD.unpack_from(payload)
    if count > MAX_KEY_ENTRIES:
        raise BadPacket(f"KEY_STATE has at most {MAX_KEY_ENTRIES} entries, not {count}")
    size = _STATE_HEAD.size + count * _STATE_ENTRY.size
    if len(payload) != size:
        raise BadPacket(f"KEY_STATE with {count} entries is {size} bytes, not {len(payload)}")
    entries = tuple(
        _entry_untrusted(*fields) for fields in _STATE_ENTRY.iter_unpack(memoryview(payload)[_STATE_HEAD.size :])
    )
    if len({entry.epoch for entry in entries}) < count:
        raise BadPacket("KEY_STATE lists an epoch twice")
    if sum(entry.send for entry in entries) > 1:
        raise BadPacket("KEY_STATE names more than one key to send with")
    return KeyState(
        sender_id=sender_id if flags & _LEASED else None,
        senders=decode_sender_bitmap_untrusted(bitmap),
        entries=entries,
    )


def encode_key_ack(message: KeyAck) -> bytes:
    """Return the epoch. Raises ValueError when it is not 1..65535."""
    return _EPOCH.pack(_checked_epoch(message.epoch))


def decode_key_ack_untrusted(payload: bytes) -> KeyAck:
    """Read an epoch."""
    (epoch,) = _unpack_untrusted("KEY_ACK", _EPOCH, payload)
    _check_epoch_untrusted(epoch)
    return KeyAck(epoch)


def encode_key_new(message: KeyNew) -> bytes:
    """Return the reason byte."""
    return _BYTE.pack(message.reason)


def decode_key_new_untrusted(payload: bytes) -> KeyNew:
    """Read a reason. A later version may have further ones."""
    (reason,) = _unpack_untrusted("KEY_NEW", _BYTE, payload)
    return KeyNew(KeyNewReason(reason) if reason in KeyNewReason else KeyNewReason.OTHER)


def _pack_key(key: Key) -> bytes:
    return _KEY.pack(key.pms.reveal(), key.server_random, key.client_random)


def _unpack_key_untrusted(data: bytes, suite: Suite) -> Key:
    pms, server_random, client_random = _KEY.unpack(data)
    return Key(Secret(pms), server_random, client_random, suite)


def _entry_untrusted(epoch: int, suite: int, flags: int, key: bytes) -> KeyEntry:
    _check_epoch_untrusted(epoch)
    return KeyEntry(
        epoch=epoch,
        key=_unpack_key_untrusted(key, _suite_untrusted(suite)),
        send=bool(flags & _SEND),
        receive=bool(flags & _RECEIVE),
        unused=bool(flags & _UNUSED),
    )


def _unpack_untrusted(name: str, layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise BadPacket(f"{name} is {layout.size} bytes, not {len(payload)}")
    return layout.unpack(payload)


def _suite_untrusted(number: int) -> Suite:
    try:
        return Suite(number)
    except ValueError:
        raise BadPacket(f"cipher suite {number:04X} is unknown") from None


def _check_epoch_untrusted(epoch: int) -> None:
    if epoch == 0:
        raise BadPacket("epoch 0 is never used for data")


def _checked_epoch(epoch: int) -> int:
    if not 1 <= epoch <= MAX_EPOCH:
        raise ValueError(f"an epoch is 1..{MAX_EPOCH}, not {epoch}")
    return epoch


def _checked_sender(sender: int) -> int:
    if not 0 <= sender < SENDER_IDS:
        raise ValueError(f"a sender id is 0..{SENDER_IDS - 1}, not {sender}")
    return sender


def encode_sender_bitmap(senders: frozenset[int]) -> bytes:
    """Return sender ids as the bitmap of KEY_STATE, 32 bytes. Raises ValueError for an id out of bounds."""
    bitmap = bytearray(SENDER_IDS // 8)
    for sender in senders:
        bitmap[_checked_sender(sender) // 8] |= 1 << sender % 8
    return bytes(bitmap)


def decode_sender_bitmap_untrusted(bitmap: bytes) -> frozenset[int]:
    """Return the sender ids in a bitmap of 32 bytes. All values of these bytes are valid."""
    return frozenset(n for n in range(SENDER_IDS) if bitmap[n // 8] >> n % 8 & 1)
