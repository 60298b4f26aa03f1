"""A copy of a value with some fields changed, whichever way the value is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def changed(value: T, **fields: Any) -> T:
    """Give a copy with these fields; values on the hot path are msgspec structs, the others dataclasses."""
    change: Any = msgspec.structs.replace if isinstance(value, msgspec.Struct) else replace
    made: T = change(value, **fields)
    return made
