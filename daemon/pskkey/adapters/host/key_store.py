"""Keeps the persisted state over a restart: a memfd in systemd's file descriptor store (systemd.service(5), FDSTORE).

The file is in memory, never on a disk, and its size is sealed. It has two slots:

    slot  generation u64 | size u32 | SHA-256 of the rest[32] | the saved state (`wire.saved`), `size` bytes

A state is written to the free slot first. Then the other slot is overwritten with zeros. So there is a complete state
whenever the process dies, and retired keys do not stay. All memory is allocated at the beginning, so that no later
write can fail because memory is short.
"""

import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from pskkey.adapters.host.systemd import keeps_descriptors, store
from pskkey.errors import BadPacket
from pskkey.model import SavedState
from pskkey.wire.saved import MAX_SAVED_SIZE, decode_saved_untrusted, encode_saved

FD_NAME: Final = "keystate"
"""The name of the memfd in the store: `FDNAME=`, and in LISTEN_FDNAMES."""

_HEAD: Final = struct.Struct("!QI32s")
_SLOT_SIZE: Final = _HEAD.size + MAX_SAVED_SIZE
_SLOTS: Final = 2
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_UNWRITABLE: Final = fcntl.F_SEAL_WRITE | 0x0010  # F_SEAL_FUTURE_WRITE of linux/fcntl.h, not in `fcntl` yet
_MFD_NOEXEC_SEAL: Final = 0x0008  # linux/memfd.h since 6.3; not in `os` yet

_log = logging.getLogger("pskkey.key_store")


class KeyStore:
    """The stored state of one daemon. An unchanged state is not written again."""

    def __init__(self, fd: int, generation: int = 0, saved: SavedState | None = None) -> None:
        self._fd = fd
        self._saved = saved
        self._used = _SLOT_SIZE
        """Bytes that are used in the slot that was written last."""
        self.generation = generation
        """How often a state was written."""

    @property
    def saved(self) -> SavedState | None:
        """The state as it is stored now."""
        return self._saved

    def save(self, state: SavedState) -> None:
        """Store `state`."""
        if state == self._saved:
            return
        self.generation += 1
        encoded = encode_saved(state)
        slot = bytearray(_HEAD.pack(self.generation, len(encoded), hashlib.sha256(encoded).digest())) + encoded
        os.pwrite(self._fd, slot, self.generation % _SLOTS * _SLOT_SIZE)
        os.pwrite(self._fd, bytes(self._used), (self.generation + 1) % _SLOTS * _SLOT_SIZE)
        self._used = len(slot)
        for copy in (encoded, slot):
            copy[:] = bytes(len(copy))
        self._saved = state

    def close(self) -> None:
        """Close our descriptor. The service manager has its own."""
        os.close(self._fd)


def open_key_store(environ: Mapping[str, str], inherited: Sequence[int]) -> KeyStore | None:
    """Return the store that the last process left among the `inherited` descriptors, or a new one.

    None when there is no service manager that could keep it.
    """
    if not environ.get("NOTIFY_SOCKET"):
        return None
    if not keeps_descriptors(environ):
        _log.info("a restart does not keep the keys: FileDescriptorStoreMax= of the service is 0")
        return None
    stores = [found for fd in inherited if (found := _read(fd)) is not None]
    if stores:
        *older, newest = sorted(stores, key=lambda found: found.generation)
        for one in older:
            one.close()
        return newest
    fd = _create()
    try:
        store(FD_NAME, fd)
    except OSError as error:
        os.close(fd)
        _log.warning("a restart will not keep the keys: the service manager did not take their store: %s", error)
        return None
    return KeyStore(fd)


def _read(fd: int) -> KeyStore | None:
    """Return the store in `fd`. If it is none of ours, close `fd` and return None."""
    if not _is_ours(fd):
        _log.warning(
            "the descriptor that the service manager kept under the name %s is no key state: beginning anew", FD_NAME
        )
        os.close(fd)
        return None
    newest = KeyStore(fd)
    trouble = None
    for number in range(_SLOTS):
        slot = os.pread(fd, _SLOT_SIZE, number * _SLOT_SIZE)
        generation, size, digest = _HEAD.unpack_from(slot)
        encoded = slot[_HEAD.size : _HEAD.size + size]
        if generation <= newest.generation:
            continue  # the older state, or an unused slot
        if hashlib.sha256(encoded).digest() != digest:
            trouble = "its checksum is wrong"
            continue
        try:
            newest = KeyStore(fd, generation, decode_saved_untrusted(encoded))
        except BadPacket as error:
            trouble = str(error)
    if newest.saved is None and trouble is not None:
        _log.warning("the stored key state is not used, beginning anew: %s", trouble)
    return newest


def _is_ours(fd: int) -> bool:
    """Whether `fd` is a file that `_create` made, and can be written."""
    try:
        size, seals = os.fstat(fd).st_size, fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    is_sealed = seals & _SEALS == _SEALS and not seals & _UNWRITABLE
    return size == _SLOTS * _SLOT_SIZE and is_sealed and access == os.O_RDWR


def _create() -> int:
    try:
        fd = os.memfd_create("pskkey-keystate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_NOEXEC_SEAL)
    except OSError:  # a kernel before 6.3 does not know the flag
        fd = os.memfd_create("pskkey-keystate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.pwrite(fd, bytes(_SLOTS * _SLOT_SIZE), 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd
