"""A search for secrets in printed text, in each form in which a program may print them."""

import base64
from collections.abc import Iterator, Mapping
from typing import Final

PIECE: Final = 9
"""Bytes of a secret that count as a leak. A multiple of 3, so that base64 is found at every offset."""


def leaks(secrets: Mapping[str, bytes], printed: Mapping[str, bytes]) -> list[str]:
    """Return a sentence for each secret that a printed text shows, completely or in a piece."""
    found = []
    for place, content in printed.items():
        lowered = content.lower()
        for name, secret in secrets.items():
            for form, piece in _pieces(secret):
                if piece in (lowered if form.startswith("hex") else content):
                    found.append(f"{name} shows as {form} in {place}")
                    break
    return found


def _pieces(secret: bytes) -> Iterator[tuple[str, bytes]]:
    for start in range(max(1, len(secret) - PIECE + 1)):
        piece = secret[start : start + PIECE]
        if len(set(piece)) > PIECE // 2:  # padding is no secret
            yield from forms(piece)


def forms(piece: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the forms in which bytes get printed, by name."""
    yield "raw bytes", piece
    yield "hex", piece.hex().encode()
    yield "hex with colons", piece.hex(":").encode()
    yield "hex with spaces", piece.hex(" ").encode()
    yield "base64", base64.b64encode(piece)
    yield "base64url", base64.urlsafe_b64encode(piece)
    yield "repr", repr(piece)[2:-1].encode()
    yield "JSON", piece.decode("latin-1").encode("unicode_escape")
    yield "a list of numbers", ", ".join(map(str, piece)).encode()
    yield "a JSON list", ",".join(map(str, piece)).encode()
    yield "a number", str(int.from_bytes(piece)).encode()
