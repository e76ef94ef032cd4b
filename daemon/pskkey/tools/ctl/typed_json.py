"""JSON values as typed ones: a NamedTuple is the schema of an object, by the names and annotations of its fields."""

from types import UnionType
from typing import Any, Final, cast, get_args, get_origin

from pskkey.errors import BadPacket

_SCALARS: Final[dict[type, tuple[tuple[type, ...], str]]] = {
    str: ((str,), "text"),
    int: ((int,), "an integer"),
    float: ((float, int), "a number"),
    bool: ((bool,), "true or false"),
}
"""The JSON types of each type, and its name in an error. In Python true is an integer, in JSON it is not."""


def read_untrusted[T](kind: type[T], value: object) -> T:
    """Return a JSON `value` as a `kind`. Raises BadPacket, which names the place of the fault.

    A kind is a type of `_SCALARS`, `tuple[X, ...]`, `dict[str, X]`, `X | None`, or a NamedTuple of kinds. An object may
    lack the fields that have a default, and may have others, which are skipped.
    """
    return cast("T", _read(kind, value, ""))


def _read(kind: Any, value: object, place: str) -> Any:
    arguments = get_args(kind)
    if isinstance(kind, UnionType):
        return None if value is None else _read(arguments[0], value, place)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _not(place, "a list")
        return tuple(_read(arguments[0], item, f"{place}.{index}") for index, item in enumerate(value))
    if get_origin(kind) is dict:
        items = _object(value, place).items()
        return {name: _read(arguments[1], item, f"{place}.{name}") for name, item in items}
    if issubclass(kind, tuple):
        return _record(kind, _object(value, place), place)
    accepted, what = _SCALARS[kind]
    if type(value) not in accepted:
        raise _not(place, what)
    try:
        return kind(value)
    except OverflowError:
        raise _not(place, what) from None


def _record(kind: Any, values: dict[str, object], place: str) -> Any:
    fields: dict[str, object] = {}
    for name, kind_of_field in kind.__annotations__.items():
        at = f"{place}.{name}" if place else name
        if name in values:
            fields[name] = _read(kind_of_field, values[name], at)
        elif name not in kind._field_defaults:
            raise BadPacket(f"{at} is missing")
    return kind(**fields)


def _object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _not(place, "an object")
    return value


def _not(place: str, what: str) -> BadPacket:
    # The place may hold a name that the sender chose.
    return BadPacket(f"{ascii(place)[1:-1][:80]} is not {what}")
