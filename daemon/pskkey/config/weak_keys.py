"""Keys that a person made up: text, patterns, words and dates. A pre-shared key must come from a generator.

An advert of mDNS is signed with the PSK and is sent to everybody on the network. So anybody can record one and try
guesses offline, as fast as a machine computes HMAC, and nobody notices. A key of 16 random bytes resists that. A text
that a person thought of does not, however long it is.

1. *Text* is refused whatever it means: printable ASCII and Latin letters in UTF-8, or mostly other letters in UTF-8,
   also with zero bytes, 0xff bytes or line ends around it. A random key of 16 bytes is such a text once in 2^22, one of
   24 bytes once in 2^33, one of 32 bytes once in 2^44. No rule does better: 95^16 of the 256^16 keys are printable.
2. *Published* keys are refused: those of manuals and standards, and the common hashes of common words.
3. *Short descriptions*: a key is refused when one of three codes describes it in at least `MIN_SAVING` bits less than
   the bits that it has. The codes know repeated, mirrored and counted parts, words and dates (`_shortest`, once for
   bytes and once for hexadecimal digits), and few or mostly equal bytes (`_adaptive`). A code has at most 2^m
   descriptions of m bits (Kraft's inequality), so each takes a random key of any size for a weak one at most once in
   2^32, and the three together at most once in 2^30.

Some weak keys cannot be found. A hash of a word outside the list looks like a random key, as does other arithmetic on
a word, a date or a serial number. 32 decimal digits save too few bits unless they repeat or hold dates.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import inf, log2
from typing import Final

MIN_SAVING: Final = 32
"""Bits by which a description must be shorter than the key that it describes, so that the key is refused."""

MAX_LOOKED_AT: Final = 32
"""Bytes at the front of a key in which short descriptions are looked for: 32 random bytes are strong whatever follows.
It bounds the work, which grows with the cube."""

_AROUND_TEXT: Final = b"\0\xff\t\r\n "
_LATIN: Final = range(0xA1, 0x180)
"""Code points of Latin letters and signs beyond ASCII."""

_WORDS: Final = (
    "admin administrator changeme company customer default demo device dragon example factory group hello iloveyou key "
    "letmein line login machine master master_key monkey multicast network node password passw0rd plant private psk "
    "pskkey qwerty root secret secretkey security server sesame shared sharedsecret site station system test testkey "
    "test123 user welcome wolfssl 123456 12345678 123456789 1234567890 0 1"
)
"""Common passwords. The hashes include that of the empty word."""

_HEX_WORDS: Final = (
    "abba abcd ac1d acce55 acdc b00b baad babe bad bead beef c001 c0de c0ffee cafe caffe dada dead deadbeef decade "
    "deaf deed defaced d00d effaced f00d facade face fade feed feedface cafebabe f1f0 1337 1234 4321 aaaa ffff 0000"
)
"""Words, and digits that look like words, in hexadecimal."""

_PUBLISHED: Final = (
    "9e32cf7786321a828ef7668f09fb35db",  # the GnuTLS manual
    "2b7e151628aed2a6abf7158809cf4f3c",  # FIPS 197 and NIST SP 800-38A, as are the next two
    "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    "31415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679",
    "27182818284590452353602874713526624977572470936999595749669676277240766303535475945713821785251664274",
    "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",  # pi, as Blowfish begins
)
"""Keys and digits that stand in books; a key that begins with 16 bytes out of one is refused."""

_LITERAL: Final = 0.2
_TOKEN: Final = 4.0
"""Bits that name what follows in a description: a symbol (7 of 8 times), a copy, or a word (1 of 16 times each).
2^-0.2 + 2^-4 + 2^-4 is less than 1, as Kraft's inequality asks."""

_PRIOR: Final = 1 / 16
"""How often `_adaptive` expects each byte before it has seen any."""

_YEAR, _MONTH, _DAY = "(?:19[5-9][0-9]|20[0-4][0-9])", "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_DATE: Final = re.compile(f"{_YEAR}{_MONTH}{_DAY}|{_DAY}{_MONTH}{_YEAR}")
_DATES: Final = 2 * 100 * 12 * 31
"""How many different texts match `_DATE`."""


def weakness(key: bytes) -> str | None:
    """Return what is wrong with a key of 16 bytes or more, such as "is text"; None for a key like those of a generator.

    The answer repeats nothing of the key.
    """
    if _is_published(key):
        return "is published"
    if _is_text(key):
        return "is text, as passwords are"
    looked_at = key[:MAX_LOOKED_AT]
    size = 8 * len(looked_at)
    if size - _adaptive(looked_at) >= MIN_SAVING:
        return "has too few different bytes"
    digits = looked_at.hex()
    by_digits = _shortest([int(digit, 16) for digit in digits], 4, digits)
    if size - min(by_digits, _shortest(looked_at, 8, "")) >= MIN_SAVING:
        return "follows a pattern of repeated or counted bytes, words or dates"
    return None


def _is_published(key: bytes) -> bool:
    return any(key.hex()[:32] in published for published in _PUBLISHED) or key in _hashes()


@cache
def _hashes() -> frozenset[bytes]:
    """Return the hashes of common words, whole, and cut to 16 and 32 bytes."""
    found = set()
    for word in ("", *_WORDS.split()):
        for text in {word, word.capitalize(), word.upper(), f"{word}\n"}:
            for name in ("md5", "sha1", "sha256", "sha512"):
                value = hashlib.new(name, text.encode(), usedforsecurity=False).digest()
                found |= {value, value[:16], value[:32]}
    return frozenset(found)


def _is_text(key: bytes) -> bool:
    try:
        text = key.strip(_AROUND_TEXT).decode()
    except UnicodeDecodeError:
        return False
    if not text or not text.isprintable():
        return False
    beyond = [char for char in text if not char.isascii()]
    return all(ord(char) in _LATIN for char in beyond) or 4 * len("".join(beyond).encode()) >= 3 * len(key)


def _adaptive(key: bytes) -> float:
    """Return the bits of a description in which a byte takes fewer bits the more often it occurred before."""
    seen: Counter[int] = Counter()
    bits = 0.0
    for number, byte in enumerate(key):
        bits -= log2((seen[byte] + _PRIOR) / (number + 256 * _PRIOR))
        seen[byte] += 1
    return bits


def _shortest(symbols: Sequence[int], width: int, digits: str) -> float:
    """Return the bits of the shortest description of `symbols`, which are numbers of `width` bits.

    A description is a row of symbols, of copies of what stood before (the same, mirrored, or with one number added to
    each symbol, which is how bytes count), and of words and dates if the symbols are given as `digits` too.
    """
    size = len(symbols)
    best = [0.0, *[inf] * size]
    for at in range(size):
        best[at + 1] = min(best[at + 1], best[at] + _LITERAL + width)
        for length, bits in _words(digits, at):
            best[at + length] = min(best[at + length], best[at] + _TOKEN + bits)
        for length, bits in _copies(symbols, at, width):
            for end in range(at + 1, at + length + 1):  # a part of it is a copy too
                best[end] = min(best[end], best[at] + _TOKEN + bits)
    return best[size]


def _copies(symbols: Sequence[int], at: int, width: int) -> Iterator[tuple[int, float]]:
    """Yield the lengths of the longest copies to `at`, and the bits for the kind (of 3), the source and the length."""
    if not at:
        return
    same, added, mirrored = 0, 0, 0
    size, first = len(symbols), symbols[at]
    for source in range(at):
        step = (first - symbols[source]) % (1 << width)
        length = 1
        while at + length < size and (symbols[at + length] - symbols[source + length]) % (1 << width) == step:
            length += 1
        if step:
            added = max(added, length)
            continue
        same = max(same, length)
        length = 1
        while at + length < size and length <= source and symbols[at + length] == symbols[source - length]:
            length += 1
        mirrored = max(mirrored, length)
    which = log2(3) + log2(at) + log2(size - at)
    yield max(same, mirrored), which
    yield added, which + width


def _words(digits: str, at: int) -> Iterator[tuple[int, float]]:
    """Yield the lengths of the words and dates at a place in a row of digits, and the bits to select one."""
    if _DATE.match(digits, at):
        yield 8, log2(2) + log2(_DATES)
    words = _hex_words()
    for length, of_length in words.items():
        if digits[at : at + length] in of_length:
            yield length, log2(2) + log2(sum(map(len, words.values())))


@cache
def _hex_words() -> Mapping[int, frozenset[str]]:
    """Return words as hexadecimal digits, by the number of the digits."""
    words = {*_HEX_WORDS.split()}
    for word in _WORDS.split():
        if len(word) > 2:
            words |= {text.encode().hex() for text in (word, word.capitalize(), word.upper())}
    return {length: frozenset(word for word in words if len(word) == length) for length in set(map(len, words))}
