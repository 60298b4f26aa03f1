"""One text for equal JSON values, for hashing and for comparing.

Rules: keys are sorted, separators shortest, non-ASCII characters kept. Numbers
that are equal are written alike (1.0 as 1), booleans are never numbers.
"""

import json
from typing import Any, Final

from gearshift.core.schema.errors import DocumentError

_EXACT: Final = 1 << 60  # below this the hash of an int is itself, so that no two share one
_TRUE: Final = ("true",)
_FALSE: Final = ("false",)


def canonical_json(value: Any) -> str:
    """Return the canonical text of a JSON value.

    Raises:
        DocumentError: value holds what JSON cannot say (NaN, infinity, other types, cycles).
    """
    try:
        return json.dumps(
            _with_plain_numbers(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentError(f"not a JSON value: {str(error)[:80]}") from error


def identity_key(value: Any) -> Any:
    """Return a hashable that is equal for equal JSON values, and only for those."""
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is int or kind is float:
        if -_EXACT < value < _EXACT:
            return value
        # Ints beyond this share hashes by design of Python: hostile ones would make a set quadratic.
        return ("number", hex(int(value))) if value == value and abs(value) != float("inf") else ("number", str(value))
    if value is None:
        return None
    return ("container", canonical_json(value))


def _with_plain_numbers(value: Any) -> Any:
    """Return value with integral floats as ints; the same object where nothing changes."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict:
        if any(type(name) is not str for name in value):
            raise DocumentError("not a JSON value: a key is not a string")
        return {name: _with_plain_numbers(item) for name, item in value.items()}
    if kind is list:
        return [_with_plain_numbers(item) for item in value]
    return value
