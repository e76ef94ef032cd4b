"""The keys of the group, and the names of pre-shared keys."""

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from pskkey.secret import Secret

PMS_FIELD_SIZE = 64
RANDOM_SIZE = 32
MAX_EPOCH = 65535
MAX_KEY_ENTRIES = 3
SENDER_IDS = 256
MAX_KEY_AGE: Final = 2**31 - 1
"""Seconds: the greatest age of a key that GROUP states."""


class Suite(IntEnum):
    """Cipher suites of the multicast DTLS group, by their two-byte TLS number."""

    WDM_WITH_NULL_SHA256 = 0x00FE
    PSK_CHACHA20_POLY1305 = 0xCCAB


@dataclass(frozen=True, slots=True)
class Key:
    """A group key: `pms` (64 bytes: the pre-master secret, padded with zeros), two 32-byte randoms, the suite."""

    pms: Secret
    server_random: bytes = field(repr=False)
    client_random: bytes = field(repr=False)
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    fingerprint: str = field(init=False, repr=False, compare=False)
    """First 8 bytes, in hex, of SHA-256 over the 128 bytes `pms server_random client_random`, as the key was made."""

    def __post_init__(self) -> None:
        if len(self.pms) != PMS_FIELD_SIZE:
            raise ValueError(f"a PMS field is {PMS_FIELD_SIZE} bytes, not {len(self.pms)}")
        if len(self.server_random) != RANDOM_SIZE or len(self.client_random) != RANDOM_SIZE:
            raise ValueError(f"the randoms are {RANDOM_SIZE} bytes each")
        digest = hashlib.sha256(self.pms.reveal() + self.server_random + self.client_random)
        object.__setattr__(self, "fingerprint", digest.hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class PskName:
    """The name of a pre-shared key. If the key of an identity changes, its name changes too."""

    identity: str
    fingerprint: str = field(default="", repr=False)
    """The fingerprint of the key, in hex. It is compared within one process, and never shown."""


UNNAMED_PSK: Final = PskName("")
"""The name for a session that is not open yet."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of a key state: its DTLS epoch (1..65535), and whether to send and to receive with it.

    `unused`: the key is being distributed, and no node sends with it yet.
    """

    epoch: int
    key: Key
    send: bool
    receive: bool = True
    unused: bool = False


class Slot(StrEnum):
    """The place of a key in a key ring."""

    PREVIOUS = "previous"
    CURRENT = "current"
    NEXT = "next"
