"""Which kind of JSON value something is, said so that type checkers follow."""

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Say whether value is a JSON object."""
    return type(value) is dict


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Say whether value is an object as callers may hold it."""
    return isinstance(value, Mapping)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Say whether value is a JSON array."""
    return type(value) is list


def kind_of(value: Any) -> type[object]:
    """Return the Python type of value, by which tables of checks are indexed."""
    thing: object = value
    return type(thing)
