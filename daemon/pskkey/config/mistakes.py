"""Mistakes in a configuration, as sentences for the operator.

Pydantic finds the mistakes; this module turns each into `[table] key: what is wrong; allowed: ...`.
"""

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from pskkey.errors import without_keys

MAX_REPORTED: Final = 20
"""Mistakes of one file that are reported. A wrong file in its place has thousands."""
_SHOWN_VALUE: Final = 60
"""Characters of a wrong value, or of a name, that are repeated to the operator."""


def describe(error: ValidationError, file: type[BaseModel]) -> list[str]:
    """Return a sentence for each of the first MAX_REPORTED mistakes, and how many more there are.

    `file` is the model of the file: its fields are the tables.
    """
    sentences: list[str] = []
    mistakes = error.errors(include_url=False)
    for number, mistake in enumerate(mistakes):
        sentence = _sentence(mistake, file)
        if sentence in sentences:
            continue
        if len(sentences) == MAX_REPORTED:
            return [*sentences, f"and {len(mistakes) - number} more; mend these first"]
        sentences.append(sentence)
    return sentences


def describe_value(file: type[BaseModel], table: str, key: str, value: object, reason: str) -> str:
    """Return the sentence for a value that is wrong for this reason. `file` has the table, and the table the key."""
    model = _table_model(file, table)
    allowed = model.model_fields[key].description if model else None
    return f"[{table}] {key}: {_toml(value)} {reason}; allowed: {allowed}"


def _sentence(mistake: Any, file: type[BaseModel]) -> str:
    table, *rest = (_cut(without_keys(step)) for step in mistake["loc"])
    tables = [f"[{name}]" for name in file.model_fields]
    model = _table_model(file, table)
    if model is None:
        if isinstance(mistake["input"], dict):
            return f"[{table}]: there is no such table{_nearest(f'[{table}]', tables)}; allowed: {', '.join(tables)}"
        return f"{table}: stands outside of any table{_owner(table, file)}; allowed: {', '.join(tables)}"
    if not rest:
        wrong = _reason(mistake) if mistake["type"] == "value_error" else f"{_toml(mistake['input'])} is no table"
        return f"[{table}]: {wrong}; allowed: {', '.join(model.model_fields)}"
    key = rest[0]
    if mistake["type"] == "extra_forbidden":
        keys = list(model.model_fields)
        # Without its value: an operator may have pasted a pre-shared key here.
        return f"[{table}] {key}: there is no such key{_nearest(key, keys)}; allowed: {', '.join(keys)}"
    return describe_value(file, table, key, mistake["input"], _reason(mistake))


def _table_model(file: type[BaseModel], table: str) -> type[BaseModel] | None:
    field = file.model_fields.get(table)
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _nearest(word: str, allowed: Iterable[str]) -> str:
    found = get_close_matches(word, list(allowed), n=1)
    return f", perhaps {found[0]} is meant" if found else ""


def _owner(key: str, file: type[BaseModel]) -> str:
    models = {table: _table_model(file, table) for table in file.model_fields}
    owners = [f"[{table}]" for table, model in models.items() if model and key in model.model_fields]
    return f", perhaps {' or '.join(owners)} is meant" if owners else ""


def _reason(mistake: Any) -> str:
    kind: str = mistake["type"]
    if kind == "value_error":
        return without_keys(mistake["ctx"]["error"])
    if kind.endswith(("_type", "_parsing")) or kind == "is_instance_of":
        return "is of another type"
    if kind.startswith(("greater_than", "less_than", "finite_number")):
        return "is out of range"
    if kind.startswith("too_"):
        return "has too many or too few items"
    return "is not allowed"


def _toml(value: object) -> str:
    """Return a value about as it stands in the file, cut where it gets long."""
    if isinstance(value, (str, bool, int, float, list)):
        try:
            text = json.dumps(value, ensure_ascii=True, default=str)
        except ValueError:  # more decimal digits than sys.get_int_max_str_digits(), from a hexadecimal number
            text = "a number far too long"
    else:
        text = "a table" if isinstance(value, dict) else str(value)
    return _cut(without_keys(text))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_VALUE else f"{text[:_SHOWN_VALUE]}..."
