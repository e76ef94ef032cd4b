"""The keys that protect records, derived from a group key as in TLS 1.2, but without a handshake.

    master_secret = P_SHA256(pms, "master secret" | client_random | server_random), 48 bytes
    key_block     = P_SHA256(master_secret, "key expansion" | server_random | client_random)

RFC 5246 sections 5, 6.3 and 8.1; no extended master secret, because there is no handshake. A group has one direction,
so only the leading part of the key block is used, the same for every sender: `[MAC key 32 unless AEAD][key][iv]`.
wolfSSL's `wolfSSL_set_secret` derives the same.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from pskkey.model import Key, Suite
from pskkey.secret import Secret

MASTER_SECRET_SIZE = 48
SHA256_MAC_KEY_SIZE = 32
CHACHA20_KEY_SIZE = 32
CHACHA20_IV_SIZE = 12


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """The parts of the key block that one suite uses; the others are empty."""

    mac_key: Secret
    key: Secret
    iv: Secret


def derive_master_secret(key: Key) -> Secret:
    """Return the 48-byte master secret of a group key."""
    seed = b"master secret" + key.client_random + key.server_random
    return Secret(_expand(key.pms.reveal(), seed, MASTER_SECRET_SIZE))


def derive_traffic_keys(key: Key) -> TrafficKeys:
    """Return the keys that protect the group's records under `key` and its suite."""
    seed = b"key expansion" + key.server_random + key.client_random
    master_secret = derive_master_secret(key).reveal()
    match key.suite:
        case Suite.WDM_WITH_NULL_SHA256:
            block = _expand(master_secret, seed, SHA256_MAC_KEY_SIZE)
            return TrafficKeys(mac_key=Secret(block), key=Secret(b""), iv=Secret(b""))
        case Suite.PSK_CHACHA20_POLY1305:
            block = _expand(master_secret, seed, CHACHA20_KEY_SIZE + CHACHA20_IV_SIZE)
            return TrafficKeys(
                mac_key=Secret(b""), key=Secret(block[:CHACHA20_KEY_SIZE]), iv=Secret(block[CHACHA20_KEY_SIZE:])
            )


def _expand(secret: bytes, seed: bytes, size: int) -> bytes:
    """P_SHA256 of RFC 5246 section 5, cut to `size` bytes."""
    out = b""
    a = seed
    while len(out) < size:
        a = _hmac_sha256(secret, a)
        out += _hmac_sha256(secret, a + seed)
    return out[:size]


def _hmac_sha256(key: bytes, data: bytes) -> bytes:
    mac = HMAC(key, SHA256())
    mac.update(data)
    return mac.finalize()
