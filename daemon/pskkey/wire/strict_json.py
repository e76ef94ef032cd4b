"""Strict JSON: every text has one meaning, and no text can exhaust the reader."""

import json
import math
from typing import Any, Final, NoReturn

from pskkey.errors import BadPacket

MAX_DEPTH: Final = 16
MAX_NAMES: Final = 256
"""Names in one object. No object that we read needs a quarter of them; the others leave room for later versions."""


def decode_object_untrusted(data: bytes) -> dict[str, Any]:
    """Read one JSON object in UTF-8 (RFC 8259), nested at most 16 deep, with at most 256 names each.

    Raises BadPacket for anything else, and where RFC 8259 leaves the meaning open: repeated names (section 4), infinite
    numbers, integers of more digits than Python converts (section 6), and lone surrogates (section 8.2).
    """
    try:
        text = data.decode()
        value = json.loads(
            text,
            object_pairs_hook=_object_untrusted,
            parse_float=_float_untrusted,
            parse_constant=_constant_untrusted,
        )
        if "\\u" in text:
            # A lone surrogate can only come from an escape, and it cannot be encoded again.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        # The cause is left out: it would carry the peer's text into a log.
        raise BadPacket("not a JSON object that can be read") from None
    if not isinstance(value, dict):
        raise BadPacket("a JSON object is expected")
    _check_depth_untrusted(value)
    return value


def encode_object(value: dict[str, Any]) -> bytes:
    """Return compact JSON in UTF-8. Raises ValueError for NaN, infinities and lone surrogates."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _object_untrusted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_NAMES:
        raise BadPacket(f"a JSON object has more than {MAX_NAMES} names")
    value = dict(pairs)
    if len(value) < len(pairs):
        raise BadPacket("a name is repeated in a JSON object")
    return value


def _float_untrusted(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadPacket("a JSON number is not finite")
    return number


def _constant_untrusted(_name: str) -> NoReturn:
    raise BadPacket("a JSON number is not finite")


def _check_depth_untrusted(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise BadPacket(f"JSON is nested more than {MAX_DEPTH} deep")
