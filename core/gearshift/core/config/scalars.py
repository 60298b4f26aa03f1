"""What an unquoted scalar of YAML means.

Rules: YAML 1.2's core schema, not 1.1: `no`, `on` and `12:30` are text, `1e3` is a number, a leading zero is not octal.
Numbers stay text until their type is known, so that decimals are exact.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUES = frozenset({"true", "True", "TRUE"})
FALSES = frozenset({"false", "False", "FALSE"})

_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS = 40


def whole_number(text: str) -> int | None:
    """Read a whole number, or give None; one of more than 40 digits is none."""
    if len(text) > _MOST_DIGITS:
        return None
    if _INT.fullmatch(text):
        return int(text)
    return int(text, 0) if _BASED.fullmatch(text) else None


def number(text: str) -> float | None:
    """Read a finite number, or give None."""
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def decimal(text: str) -> Decimal | None:
    """Read a number exactly as written, or give None; one of more than 40 digits either side of the point is none."""
    if len(text) > _MOST_DIGITS or not _FLOAT.fullmatch(text):
        return None
    value = Decimal(text)
    return value if abs(value.adjusted()) <= _MOST_DIGITS else None


def plain_value(text: str) -> str | int | float | bool | None:
    """Give what an unquoted scalar means where any JSON value may stand.

    Raises:
        ValueError: a number that JSON cannot hold.
    """
    if text in NULLS:
        return None
    if text in TRUES or text in FALSES:
        return text in TRUES
    if (whole := whole_number(text)) is not None:
        return whole
    if _FLOAT.fullmatch(text):
        if (value := number(text)) is not None:
            return value
        raise ValueError("is a number that is too large")
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("must be a finite number; infinity and NaN have no place in JSON")
    return text
