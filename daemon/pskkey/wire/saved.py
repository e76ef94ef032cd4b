"""The state that a node saves for its next process (`model.SavedState`), as bytes. Every number is big-endian.

    head       version u8 = 1 | term u64 | keys u8 | unlisted u8 | former_lease u8 (0 or 1)
               | members u16 | sent_with u16 | session managers u16: how many there are of each
    texts      group, node, incarnation, each: size u16 | UTF-8
    leases     lease and, if there is one, former_lease, each: leased u8 (0 or 1) | sender_id u8
               | senders[32], a bitmap as in KEY_STATE
    keys       each: epoch u16 | suite u16 | slot u8 (0 previous, 1 current, 2 next) | since f64
               | pms[64] | server_random[32] | client_random[32]; the `unlisted` ones come last
    members    each: leased u8 (0 or 1) | sender_id u8 | size u16 | node id, UTF-8
    sent_with  each: fingerprint[8] | sequence context u64
    session managers  each: flags u8 (bit 0: asked to send, bit 1: acknowledges) | sequence context u64
    tail       size u32 | flags u8 (bit 0: without_master_since is known, bit 1: known_outside is)
               | without_master_since f64 | known_outside, a fingerprint[8] | fields of later versions

An upgrade and a downgrade keep the state: the next version reads what this one wrote, and this one what the next one
wrote. So the format only grows, by fields at the end of the tail. A reader ignores the fields that it does not know,
and has a default for those that are missing. Unknown flags are ignored too.

A state that is not of this form is refused as a whole: a node that begins anew is safe, a node with a part of its state
is not.
"""

import struct
from math import isfinite
from typing import Any, Final

from pskkey.errors import BadPacket
from pskkey.model import (
    MAX_KEY_ENTRIES,
    MAX_MEMBERS,
    Key,
    SavedKey,
    SavedLease,
    SavedManager,
    SavedRing,
    SavedState,
    Slot,
    Suite,
)
from pskkey.secret import Secret

MAX_SAVED_MANAGERS: Final = 256
MAX_SAVED_SIZE: Final = 192 * 1024
"""Bytes: with 4096 members, 64 entries of `sent_with` and 256 session managers it is below this, with 30 KiB to spare
for the tail. The key store of the next version has the same size, so this never changes."""

_VERSION: Final = 1
_HEAD: Final = struct.Struct("!BQBBBHHH")
_SIZE: Final = struct.Struct("!H")
_LEASE: Final = struct.Struct("!BB32s")
_MEMBER: Final = struct.Struct("!BB")
_KEY: Final = struct.Struct("!HHBd64s32s32s")
_SENT_WITH: Final = struct.Struct("!8sQ")
_MANAGER: Final = struct.Struct("!BQ")
_TAIL_SIZE: Final = struct.Struct("!I")
_EXPIRY: Final = struct.Struct("!Bd")
_DEPARTURE: Final = struct.Struct("!8s")
_SLOTS: Final = tuple(Slot)
_ASKED_TO_SEND: Final = 0x01
_ACKNOWLEDGES: Final = 0x02
_WITHOUT_MASTER: Final = 0x01
_KNOWN_OUTSIDE: Final = 0x02


def encode_saved(state: SavedState) -> bytearray:
    """Return the bytes of `state`, for the caller to wipe. Raises ValueError when they are over MAX_SAVED_SIZE."""
    ring = state.ring
    managers = state.managers[:MAX_SAVED_MANAGERS]
    keys = (*ring.keys, *ring.unlisted)
    leases = [ring.lease] if ring.former_lease is None else [ring.lease, ring.former_lease]
    members = state.members[:MAX_MEMBERS]
    ring_counts = (len(ring.keys), len(ring.unlisted), len(leases) - 1)
    counts = (*ring_counts, len(members), len(state.sent_with), len(managers))
    encoded = bytearray(_HEAD.pack(_VERSION, state.term, *counts))
    for text in (state.group, state.node, state.incarnation):
        encoded += _text(text)
    for lease in leases:
        senders = sum(1 << sender_id for sender_id in lease.senders).to_bytes(32, "little")
        encoded += _LEASE.pack(lease.sender_id is not None, lease.sender_id or 0, senders)
    for saved in keys:
        key, slot = saved.key, _SLOTS.index(saved.slot)
        randoms = (key.server_random, key.client_random)
        encoded += _KEY.pack(saved.epoch, key.suite, slot, saved.since, key.pms.reveal(), *randoms)
    for node, sender_id in members:
        encoded += _MEMBER.pack(sender_id is not None, sender_id or 0) + _text(node)
    for fingerprint, context in state.sent_with:
        encoded += _SENT_WITH.pack(bytes.fromhex(fingerprint), context)
    for manager in managers:
        flags = _ASKED_TO_SEND * manager.asked_to_send | _ACKNOWLEDGES * manager.acknowledges
        encoded += _MANAGER.pack(flags, manager.context)
    since, outside = state.without_master_since, bytes.fromhex(ring.known_outside)
    flags = _WITHOUT_MASTER * (since is not None) | _KNOWN_OUTSIDE * bool(outside)
    tail = _EXPIRY.pack(flags, since or 0.0) + _DEPARTURE.pack(outside)
    encoded += _TAIL_SIZE.pack(len(tail)) + tail
    if len(encoded) > MAX_SAVED_SIZE:
        raise ValueError(f"a saved state of {len(encoded)} bytes is over the limit of {MAX_SAVED_SIZE}")
    return encoded


def decode_saved_untrusted(encoded: bytes) -> SavedState:
    """Read what `encode_saved` of any version wrote. Raises BadPacket when it is anything else."""
    reader = _Reader(encoded)
    try:
        version, term, keys, unlisted, has_former_lease, members, sent_with, managers = reader.take(_HEAD)
        if version != _VERSION or max(keys, unlisted) > MAX_KEY_ENTRIES or has_former_lease > 1:
            raise BadPacket("a saved state that no version of pskkey wrote")
        group, node, incarnation = (reader.text() for _ in range(3))
        lease = _lease(*reader.take(_LEASE))
        former_lease = _lease(*reader.take(_LEASE)) if has_former_lease else None
        ring = tuple(_key(*reader.take(_KEY)) for _ in range(keys))
        beside = tuple(_key(*reader.take(_KEY)) for _ in range(unlisted))
        nodes = tuple(_member(reader) for _ in range(members))
        sent = tuple((f.hex(), context) for f, context in (reader.take(_SENT_WITH) for _ in range(sent_with)))
        known = tuple(_manager(*reader.take(_MANAGER)) for _ in range(managers))
        (tail_size,) = reader.take(_TAIL_SIZE)
        if tail_size != reader.rest:
            raise BadPacket("a saved state of another size than it names")
        flags, since = reader.take(_EXPIRY) if reader.rest >= _EXPIRY.size else (0, 0.0)
        (outside,) = reader.take(_DEPARTURE) if reader.rest >= _DEPARTURE.size else (b"",)
    except (struct.error, ValueError, IndexError):
        raise BadPacket("a saved state that is damaged") from None
    if not all(isfinite(time) for time in (since, *(key.since for key in ring + beside))):
        raise BadPacket("a saved state with a time that is no number")
    saved_ring = SavedRing(ring, lease, beside, former_lease, outside.hex() if flags & _KNOWN_OUTSIDE else "")
    without_master_since = since if flags & _WITHOUT_MASTER else None
    return SavedState(group, node, incarnation, term, saved_ring, nodes, sent, known, without_master_since)


def _text(text: str) -> bytes:
    return _SIZE.pack(len(text.encode())) + text.encode()


class _Reader:
    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._at = 0

    @property
    def rest(self) -> int:
        return len(self._encoded) - self._at

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        taken = layout.unpack_from(self._encoded, self._at)
        self._at += layout.size
        return taken

    def text(self) -> str:
        (size,) = self.take(_SIZE)
        if size > self.rest:
            raise ValueError("cut off")
        self._at += size
        return self._encoded[self._at - size : self._at].decode()


def _lease(leased: int, sender_id: int, senders: bytes) -> SavedLease:
    bits = int.from_bytes(senders, "little")
    return SavedLease(sender_id if leased else None, frozenset(i for i in range(256) if bits >> i & 1))


def _member(reader: _Reader) -> tuple[str, int | None]:
    leased, sender_id = reader.take(_MEMBER)
    return reader.text(), sender_id if leased else None


def _key(
    epoch: int, suite: int, slot: int, since: float, pms: bytes, server_random: bytes, client_random: bytes
) -> SavedKey:
    return SavedKey(epoch, Key(Secret(pms), server_random, client_random, Suite(suite)), _SLOTS[slot], since)


def _manager(flags: int, context: int) -> SavedManager:
    return SavedManager(context, bool(flags & _ASKED_TO_SEND), bool(flags & _ACKNOWLEDGES))
