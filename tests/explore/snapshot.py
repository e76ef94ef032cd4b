"""Copies of a device, and the form by which two devices count as the same state.

A copy is a pickle, which costs a quarter of `copy.deepcopy` here. A `Secret` refuses pickling on purpose, and only the
pickler of this file can copy one. Immutable values (members, groups, adverts) are kept once in a table, and a pickle
has their numbers.

The form has every object that can be reached from a device. It names no part of the core, so a new attribute of the
core is included automatically. It leaves out:

1. Absolute times. A float that is a time (at least EPOCH / 2) counts by its distance from the time of the last event,
   in microseconds. So the same situation is one state at any time. This holds because the core uses differences of
   times only.
2. The order of the entries of a dictionary or a set. It can decide only the order of the members in GROUP, and which of
   two messages on two sessions is sent first.
3. The identity of equal immutable values.
"""

import copyreg
import hashlib
import io
import pickle
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from enum import Enum
from itertools import count
from operator import itemgetter
from types import FunctionType, MethodType
from typing import Any, Final

from pskkey.core.events import Direction, Session
from pskkey.core.settings import Timing
from pskkey.model import (
    Advert,
    Group,
    Handover,
    HeldKey,
    Join,
    Key,
    KeyEntry,
    KeyState,
    Member,
    Merge,
    Process,
    Role,
    SavedKey,
    Slot,
    Suite,
)
from pskkey.secret import Secret

EPOCH: Final = float(1 << 20)
"""The first time of every clock, seconds. It is far above every duration, and a power of two for exact sums."""

MICROSECONDS: Final = 1_000_000

_KEPT_ONCE: Final = (Member, Group, Advert, Join, Merge, Handover, HeldKey, Timing)

_values: list[Any] = []
_numbers: dict[Hashable, int] = {}


def number_of(value: Hashable) -> int:
    """Return the number of an immutable value."""
    number = _numbers.get(value)
    if number is None:
        number = _numbers[value] = len(_values)
        _values.append(value)
    return number


def value_of(number: int) -> Any:
    """Return the value with this number."""
    return _values[number]


def _reduce_kept(value: Hashable) -> tuple[Callable[..., Any], tuple[int]]:
    return value_of, (number_of(value),)


def _secret(value: bytes) -> Secret:
    return Secret(value)


def _key(secret: Secret, server_random: bytes, client_random: bytes, suite: Any, fingerprint: str) -> Key:
    """Return a copy of a key. It may be wiped; its fingerprint is still that of the original key."""
    key = object.__new__(Key)
    names = ("pms", "server_random", "client_random", "suite", "fingerprint")
    for name, value in zip(names, (secret, server_random, client_random, suite, fingerprint), strict=True):
        object.__setattr__(key, name, value)
    return key


def _reduce_fields(value: Any) -> tuple[type, tuple[Any, ...]]:
    kind = type(value)
    return kind, tuple(getattr(value, name) for name in _field_names(kind))


def _reduce_count(numbers: Any) -> tuple[type, tuple[int]]:
    return count, (int(repr(numbers)[len("count(") : -1]),)


class _Pickler(pickle.Pickler):
    dispatch_table = {  # noqa: RUF012  # the pickle module defines this name
        **copyreg.dispatch_table,
        Secret: lambda secret: (_secret, (secret.reveal(),)),
        Key: lambda k: (_key, (k.pms, k.server_random, k.client_random, k.suite, k.fingerprint)),
        count: _reduce_count,
        **dict.fromkeys((KeyEntry, KeyState, SavedKey), _reduce_fields),
        **dict.fromkeys((*_KEPT_ONCE, Session, Process, Direction, Role, Suite, Slot), _reduce_kept),
    }


def freeze(device: object) -> bytes:
    """Return a frozen copy, from which `thaw` makes any number of copies."""
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(device)
    return file.getvalue()


def thaw(frozen: bytes) -> Any:
    """Return a new copy of a frozen device."""
    return pickle.loads(frozen)  # noqa: S301  # our own data


# --- the form -------------------------------------------------------------------------------------------------------

_names: dict[type, tuple[str, ...]] = {}


def _field_names(kind: type) -> tuple[str, ...]:
    """Return the names of the fields or slots of a class."""
    names = _names.get(kind)
    if names is None:
        if is_dataclass(kind):
            names = tuple(f.name for f in fields(kind))
        else:
            names = tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))
        _names[kind] = names
    return names


class _Form:
    """Writes the form of one device. A mutable object has a number, which stands for it wherever it occurs again."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.seen: dict[int, int] = {}

    def of(self, value: Any) -> str:
        """Return the form of a value."""
        writer = _writers.get(type(value))
        if writer is None:
            writer = _writers[type(value)] = _writer_for(value)
        return writer(self, value)


type _Writer = Callable[[_Form, Any], str]


def _of_float(form: _Form, value: float) -> str:
    if EPOCH / 2 < value < 2 * EPOCH:
        return f"@{round((value - form.at) * MICROSECONDS)}"
    return repr(value)


def _of_tuple(form: _Form, value: tuple[Any, ...]) -> str:
    return f"({','.join(map(form.of, value))})"


def _of_dict(form: _Form, value: dict[Any, Any]) -> str:
    of = form.of
    items = sorted([(of(k), v) for k, v in value.items()], key=itemgetter(0))
    return "{" + ",".join([f"{k}:{of(v)}" for k, v in items]) + "}"


def _of_set(form: _Form, value: set[Any]) -> str:
    return "{" + ",".join(sorted(map(form.of, value))) + "}"


def _of_object(form: _Form, value: Any) -> str:
    if id(value) in form.seen:
        return f"*{form.seen[id(value)]}"
    form.seen[id(value)] = len(form.seen)
    return _of_value(form, value)


def _of_value(form: _Form, value: Any) -> str:
    inside = [form.of(getattr(value, name, None)) for name in _field_names(type(value))]
    attributes = getattr(value, "__dict__", None)
    if attributes and not is_dataclass(value):
        inside += [f"{name}={form.of(attribute)}" for name, attribute in sorted(attributes.items())]
    return f"<{','.join(inside)}>"


_writers: dict[type, _Writer] = {
    **dict.fromkeys((int, str, bool, bytes, type(None), count), lambda _, value: repr(value)),
    **dict.fromkeys(_KEPT_ONCE, lambda _, value: f"#{number_of(value)}"),
    float: _of_float,
    tuple: _of_tuple,
    list: lambda form, value: f"[{','.join(map(form.of, value))}]",
    dict: _of_dict,
    set: _of_set,
    frozenset: _of_set,
    Key: lambda _, key: f"{key.fingerprint}{'' if any(key.pms.reveal()) else ' wiped'}",
    Secret: lambda _, secret: hashlib.sha256(secret.reveal()).hexdigest(),
    MethodType: lambda form, method: f"{form.of(method.__self__)}.{method.__name__}",
    FunctionType: lambda _, function: str(function.__qualname__),
}


def _writer_for(value: Any) -> _Writer:
    """Return the writer for a value of a new class."""
    if isinstance(value, tuple):
        return _of_tuple
    if isinstance(value, Enum):
        return lambda _, one: repr(one.value)
    if isinstance(value, type):
        return lambda _, one: str(one.__qualname__)
    parameters = getattr(value, "__dataclass_params__", None)
    return _of_value if parameters is not None and parameters.frozen else _of_object


def digest(device: object, at: float) -> bytes:
    """Return the hash of the form of a device. `at`: the time of its last event."""
    return hashlib.blake2b(_Form(at).of(device).encode(), digest_size=16).digest()
