"""The records written by wolfSSL in `tests/vectors`, and group keys for tests."""

import json
from pathlib import Path
from typing import NamedTuple

from pskkey.model import Key, KeyEntry, KeyState, Suite
from pskkey.secret import Secret

VECTORS = Path(__file__).parent.parent / "vectors" / "wolfssl_mcast_dtls.json"


class Record(NamedTuple):
    """One record that wolfSSL wrote."""

    key: Key
    epoch: int
    sender_id: int
    sequence: int
    content_type: int
    plaintext: bytes
    record: bytes


class Derivation(NamedTuple):
    """The secrets that wolfSSL derived from one key."""

    key: Key
    master_secret: bytes
    mac_key: bytes | None
    cipher_key: bytes | None
    iv: bytes | None


def load() -> tuple[list[Derivation], list[Record]]:
    """Return every derivation and every record of the file."""
    vectors = json.loads(VECTORS.read_text("utf-8"))
    derivations, records = [], []
    for suite in vectors["suites"]:
        shared = {**vectors, **suite}
        key = Key(
            pms=Secret(bytes.fromhex(shared["pms"]).ljust(64, b"\0")),
            server_random=bytes.fromhex(shared["server_random"]),
            client_random=bytes.fromhex(shared["client_random"]),
            suite=Suite(int(shared["suite"], 16)),
        )
        parts = [bytes.fromhex(suite[name]) if name in suite else None for name in ("mac_key", "key", "iv")]
        derivations.append(Derivation(key, bytes.fromhex(suite["master_secret"]), *parts))
        records += [
            Record(
                key,
                shared["epoch"],
                record["member_id"],
                record["seq"],
                record["content_type"],
                bytes.fromhex(record["plaintext"]),
                bytes.fromhex(record["record"]),
            )
            for record in suite["records"]
        ]
    return derivations, records


def group_key(seed: int = 1, suite: Suite = Suite.PSK_CHACHA20_POLY1305) -> Key:
    """Return a group key that differs for each seed (0..255)."""
    pms = b"\xfe\xfd" + bytes([seed]) * 46 + bytes(16)
    return Key(Secret(pms), server_random=bytes([seed]) * 32, client_random=bytes([seed ^ 0xFF]) * 32, suite=suite)


def key_state(sender_id: int | None, *entries: KeyEntry, senders: frozenset[int] = frozenset({1, 2, 3})) -> KeyState:
    """Return a key state whose group has the senders 1, 2 and 3."""
    return KeyState(sender_id=sender_id, senders=senders, entries=entries)
