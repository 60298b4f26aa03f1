"""One text for equal JSON values, for hashing and for comparing.

Rules: keys are sorted, separators shortest, non-ASCII characters kept. Numbers
that are equal are written alike (1.0 as 1), booleans are never numbers.
"""

import json
import math
from decimal import Decimal
from typing import Any, Final

from gearshift.core.schema.errors import DocumentError
from gearshift.core.schema.kinds import is_array, is_object, kind_of

_EXACT: Final = 1 << 53  # below this a double is exactly the whole number that it is written as
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
    kind = kind_of(value)
    if kind is str:
        return value
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is int or kind is float:
        if -_EXACT < value < _EXACT:
            return value
        # As text: large ints share hashes by design of Python, so that hostile ones would make a set quadratic.
        return ("number", str(value) if not math.isfinite(value) else hex(whole(value)))
    if value is None:
        return None
    return ("container", canonical_json(value))


def whole(value: float) -> int:
    """Return the whole number that value is written as: 10 ** 30 for 1e30, which no double is exactly."""
    return int(value) if -_EXACT < value < _EXACT or type(value) is int else int(Decimal(repr(value)))


def _with_plain_numbers(value: Any) -> Any:
    """Return value with integral floats as ints; the same object where nothing changes."""
    kind = kind_of(value)
    if kind is float:
        return whole(value) if value.is_integer() else value
    if is_object(value):
        if any(type(name) is not str for name in value):
            raise DocumentError("not a JSON value: a key is not a string")
        return {name: _with_plain_numbers(item) for name, item in value.items()}
    if is_array(value):
        return [_with_plain_numbers(item) for item in value]
    return value
