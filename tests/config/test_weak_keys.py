"""Keys that people make up are refused with the reason. Keys of a generator are accepted."""

import hashlib
from itertools import batched
from random import Random

import pytest

from pskkey.config.weak_keys import MAX_LOOKED_AT, weakness

TEXT, PATTERN, FEW, PUBLISHED = "is text", "follows a pattern", "has too few different bytes", "is published"
SOME = Random(1).randbytes


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (b"correct horse battery", TEXT),
        (b"MyFactory2024!!!", TEXT),
        (b"Kx8#mP2$vL9@qR5!", TEXT),
        (b"ourcompany-line3\n", TEXT),
        (b"2024-11-26T00:00", TEXT),
        (b"pskkey-default-1" + bytes(16), TEXT),
        (bytes(4) + b"a pass phrase" + bytes(3), TEXT),
        (b"dGhlIHNlY3JldCBpcyBoZXJl", TEXT),
        ("Schlüsselwörter!".encode(), TEXT),
        ("один секрет на всех".encode(), TEXT),
        ("我们的工厂密码在此".encode(), TEXT),
        (b"aaaaaaaaaaaaaaab", TEXT),
        (bytes(16), FEW),
        (bytes(15) + b"\1", FEW),
        (SOME(5) + bytes(11), FEW),
        ("password".encode("utf-16-le"), FEW),
        (bytes.fromhex("01101001100101101001011001101001"), FEW),
        (bytes.fromhex("00000001000000020000000300000004"), FEW),
        (bytes(range(1, 17)), PATTERN),
        (bytes(range(240, 0, -7)), PATTERN),
        (bytes.fromhex("0123456789abcdeffedcba9876543210"), PATTERN),
        (bytes.fromhex("a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"), PATTERN),
        (SOME(8) * 2, PATTERN),
        (SOME(11) + bytes([*range(200, 213)]), PATTERN),
        (bytes.fromhex("deadbeefdeadbeefcafebabecafebabe"), PATTERN),
        (bytes.fromhex("deadbeefcafebabefeedfacebaadf00d"), PATTERN),
        (bytes.fromhex("19700101202402293112199924122023"), PATTERN),
        (b"password" + SOME(8), PATTERN),
        (hashlib.md5(b"password", usedforsecurity=False).digest(), PUBLISHED),
        (hashlib.sha256(b"pskkey").digest(), PUBLISHED),
        (hashlib.sha512(b"changeme\n").digest()[:32], PUBLISHED),
        (hashlib.sha256().digest(), PUBLISHED),
        (bytes.fromhex("9e32cf7786321a828ef7668f09fb35db"), PUBLISHED),
        (bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), PUBLISHED),
        (bytes.fromhex("31415926535897932384626433832795"), PUBLISHED),
    ],
)
def test_key_that_a_person_made_up_is_refused(key: bytes, why: str) -> None:
    assert (weakness(key) or "").startswith(why)


def test_mirrored_key_is_refused() -> None:
    half = SOME(8)
    assert (weakness(half + half[::-1]) or "").startswith(PATTERN)


@pytest.mark.parametrize("size", [16, 20, 24, 32, 48, 64, 512])
def test_key_of_a_generator_is_accepted(size: int) -> None:
    random = Random(size)
    for _ in range(1000 if size <= MAX_LOOKED_AT else 100):
        assert weakness(random.randbytes(size)) is None


@pytest.mark.parametrize("size", [16, 24, 32])
def test_short_patterns_in_a_random_key_are_accepted(size: int) -> None:
    """A pattern in most of a key is a reason to refuse it. Three equal bytes are no reason."""
    key = bytearray(Random(7).randbytes(size))
    key[4:7] = b"\0\0\0"
    key[9:12] = b"\1\2\3"
    assert weakness(bytes(key)) is None


def test_weak_bytes_after_32_random_bytes_are_accepted() -> None:
    assert weakness(SOME(32) + bytes(480)) is None


def test_reason_repeats_nothing_of_the_key() -> None:
    for key in (b"MyFactory2024!!!", bytes.fromhex("deadbeef" * 4)):
        why = weakness(key) or ""
        for part in batched(key.decode("latin-1"), 4, strict=False):
            assert "".join(part) not in why
