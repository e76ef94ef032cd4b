"""Multicast DTLS 1.2 records: sealed and opened, without state.

A record, big-endian; in a datagram there is exactly one:

    offset  size  field
    0       1     content type, 23 = application data
    1       2     version, 0xfefd = DTLS 1.2
    3       2     epoch, 1..65535                     \\
    5       1     sender id, 0..255                    } the record number: 8 bytes, unique under one key
    6       5     sequence, 0..2^40 - 1               /
    11      2     length of the body
    13            body

The layout of the sequence number is that of wolfSSL (draft-keoh-dice-multicast-security section 4). The record
number takes the place of the 64-bit sequence number of TLS. MAC input and additional data are the same 13 bytes,
RFC 5246 section 6.2.3: `record number | type | version | length of the plaintext`.

    00FE  plaintext | HMAC-SHA256 (32)                  integrity only
    CCAB  ciphertext | Poly1305 tag (16)                RFC 7905: nonce = IV xor (4 zero bytes | record number)
"""

import hmac
import struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from pskkey.errors import BadPacket
from pskkey.mcast.traffic_keys import TrafficKeys, derive_traffic_keys
from pskkey.model import MAX_EPOCH, SENDER_IDS, Key, Suite

APPLICATION_DATA = 23
DTLS_1_2 = 0xFEFD
HEADER_SIZE = 13
SEQUENCE_LIMIT = 1 << 40
MAX_PLAINTEXT = 1 << 14  # RFC 5246 section 6.2.1
MAX_RECORD = HEADER_SIZE + MAX_PLAINTEXT + 32

_HEADER = struct.Struct(">BHQH")
_AUTHENTICATED = struct.Struct(">QBHH")


class AuthenticationFailed(BadPacket):
    """A well-formed record that no holder of this key has sent, or that was changed on its way."""


def read_header_untrusted(record: bytes) -> tuple[int, int]:
    """Return the content type and the 64-bit record number of a datagram that holds exactly one record.

    Raises BadPacket when it does not, or when the version is not DTLS 1.2. Nothing is authenticated yet.
    """
    size = len(record)
    if size < HEADER_SIZE:
        raise BadPacket(f"{size} bytes are too short for a DTLS record")
    content_type, version, number, length = _HEADER.unpack_from(record)
    if version != DTLS_1_2:
        raise BadPacket(f"record version {version:#06x} is not DTLS 1.2")
    if length != size - HEADER_SIZE:
        raise BadPacket(f"a record of {length} bytes in a datagram that has {size - HEADER_SIZE} for it")
    return content_type, number


class RecordProtection:
    """Seals and opens records under one key and one epoch (1..65535), for any sender.

    It keeps no state: `GroupSession` ensures that no sequence number is used twice, and no record is accepted twice.
    """

    __slots__ = ("_cipher", "_epoch_bits", "epoch", "suite")

    def __init__(self, key: Key, epoch: int) -> None:
        if not 1 <= epoch <= MAX_EPOCH:
            raise ValueError(f"a group key's epoch is 1..{MAX_EPOCH}, not {epoch}")
        self.epoch = epoch
        self.suite = key.suite
        self._epoch_bits = epoch << 48
        self._cipher = _cipher(key.suite, derive_traffic_keys(key))

    def __repr__(self) -> str:
        return f"RecordProtection(<{self.suite.name}>, epoch={self.epoch})"

    def seal(self, sender_id: int, sequence: int, plaintext: bytes, content_type: int = APPLICATION_DATA) -> bytes:
        """Return the record (13 bytes of header and 16 or 32 of tag longer than `plaintext`, at most 2^14 bytes).

        Raises ValueError for a sender id (0..255), sequence (0..2^40 - 1) or plaintext out of bounds. The caller must
        never give the same sender id and sequence twice.
        """
        if not (0 <= sender_id < SENDER_IDS and 0 <= sequence < SEQUENCE_LIMIT):
            raise ValueError(f"sender id {sender_id} and sequence {sequence} are not 0..255 and 0..2^40 - 1")
        if len(plaintext) > MAX_PLAINTEXT:
            raise ValueError(f"{len(plaintext)} bytes do not fit a record, which takes {MAX_PLAINTEXT}")
        return self._cipher.seal(content_type, self._epoch_bits | sender_id << 40 | sequence, plaintext)

    def open(self, record: bytes) -> tuple[int, int, bytes]:
        """Return (sender id, sequence, plaintext) of an untrusted record; raises only BadPacket.

        `AuthenticationFailed`, a BadPacket, distinguishes a record of another key from a malformed one. The content
        type, byte 0 of the record, is authenticated, but records of any type are opened. `GroupSession` drops those
        that are not application data.
        """
        content_type, number = read_header_untrusted(record)
        if number >> 48 != self.epoch:
            raise BadPacket(f"a record of epoch {number >> 48}, not {self.epoch}")
        plaintext = self._cipher.open_untrusted(content_type, number, record)
        return number >> 40 & 0xFF, number & 0xFF_FFFF_FFFF, plaintext

    def open_body_untrusted(self, content_type: int, number: int, record: bytes) -> bytes:
        """Return the plaintext of a record whose header `read_header_untrusted` has read.

        For callers that choose the key by the record number, and so have read it. Raises only BadPacket.
        """
        return self._cipher.open_untrusted(content_type, number, record)


class _Cipher(Protocol):
    """The protection of one suite, over record numbers."""

    def seal(self, content_type: int, number: int, plaintext: bytes) -> bytes: ...

    def open_untrusted(self, content_type: int, number: int, record: bytes) -> bytes: ...


def _cipher(suite: Suite, keys: TrafficKeys) -> _Cipher:
    match suite:
        case Suite.WDM_WITH_NULL_SHA256:
            return _NullSha256(keys)
        case Suite.PSK_CHACHA20_POLY1305:
            return _ChaCha20Poly1305(keys)


class _NullSha256:
    """00FE: the plaintext as it is, and an HMAC. Copying a keyed HMAC is far cheaper than keying a new one."""

    __slots__ = ("_keyed",)

    def __init__(self, keys: TrafficKeys) -> None:
        self._keyed = HMAC(keys.mac_key.reveal(), SHA256())

    def seal(self, content_type: int, number: int, plaintext: bytes) -> bytes:
        length = len(plaintext)
        mac = self._keyed.copy()
        mac.update(_AUTHENTICATED.pack(number, content_type, DTLS_1_2, length) + plaintext)
        return _HEADER.pack(content_type, DTLS_1_2, number, length + 32) + plaintext + mac.finalize()

    def open_untrusted(self, content_type: int, number: int, record: bytes) -> bytes:
        length = len(record) - 45
        if not 0 <= length <= MAX_PLAINTEXT:
            raise BadPacket(f"a body of {length + 32} bytes is impossible in this suite")
        plaintext = record[13:-32]
        mac = self._keyed.copy()
        mac.update(_AUTHENTICATED.pack(number, content_type, DTLS_1_2, length) + plaintext)
        if not hmac.compare_digest(mac.finalize(), record[-32:]):
            raise AuthenticationFailed("a record's MAC is wrong")
        return plaintext


class _ChaCha20Poly1305:
    """CCAB: an AEAD whose nonce is the record number, masked by the IV (RFC 7905 section 2)."""

    __slots__ = ("_aead", "_iv")

    def __init__(self, keys: TrafficKeys) -> None:
        self._aead = ChaCha20Poly1305(keys.key.reveal())
        self._iv = int.from_bytes(keys.iv.reveal())

    def seal(self, content_type: int, number: int, plaintext: bytes) -> bytes:
        length = len(plaintext)
        return _HEADER.pack(content_type, DTLS_1_2, number, length + 16) + self._aead.encrypt(
            (self._iv ^ number).to_bytes(12),
            plaintext,
            _AUTHENTICATED.pack(number, content_type, DTLS_1_2, length),
        )

    def open_untrusted(self, content_type: int, number: int, record: bytes) -> bytes:
        length = len(record) - 29
        if not 0 <= length <= MAX_PLAINTEXT:
            raise BadPacket(f"a body of {length + 16} bytes is impossible in this suite")
        try:
            return self._aead.decrypt(
                (self._iv ^ number).to_bytes(12),
                record[13:],
                _AUTHENTICATED.pack(number, content_type, DTLS_1_2, length),
            )
        except InvalidTag:
            raise AuthenticationFailed("a record's tag is wrong") from None
