"""A secret that cannot be printed by accident."""

import hmac
from typing import NoReturn


class Secret:
    """Key bytes that are never shown.

    `repr` and `str` are redacted, comparison takes constant time, and pickling and hashing are refused. The bytes
    leave only through `reveal()`, so that a search for that word finds every such place.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = bytearray(value)

    def reveal(self) -> bytes:
        """Return a copy of the secret bytes (`ssl` and `cryptography` need `bytes`)."""
        return bytes(self._value)

    def wipe(self) -> None:
        """Overwrite the bytes held here; copies that `reveal` returned stay as they are."""
        self._value[:] = bytes(len(self._value))

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Secret(<{len(self._value)} bytes>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialized")
