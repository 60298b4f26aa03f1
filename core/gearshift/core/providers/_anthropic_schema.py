"""JSON Schema as Anthropic's structured output takes it.

Rules: pure. What is valid under the caller's schema stays possible: what the provider cannot enforce is
moved into the description, where the model reads it, and the schema gate checks it later. Objects are closed, as the
provider demands. A schema that could only be said by forbidding what it is for (free maps, recursion, tuples) gives
None: then it is told in words instead.

Source of the supported keywords: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import msgspec

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_KEPT = ("title", "default")
_DROPPED = frozenset({"$schema", "$id", "$comment", "$anchor", "examples", "deprecated", "readOnly", "writeOnly"})
_DEFINITIONS = ("$defs", "definitions")


class _Unsupported(Exception):
    """Raised inside this module when a schema cannot be said."""


def supported_schema(schema: str) -> dict[str, object] | None:
    """Give the schema in the provider's dialect, or None when only words can say it.

    Args:
        schema: JSON Schema as text; empty stands for any document.
    """
    if not schema:
        return None
    try:
        root = msgspec.json.decode(schema, type=dict[str, object])
        _refuse_recursion(root)
        return _said(root)
    except (msgspec.DecodeError, _Unsupported, RecursionError):
        return None


def _said(schema: object) -> dict[str, object]:
    # true and false are no mappings
    rest = {key: value for key, value in _mapping(schema).items() if key not in _DROPPED}
    said: dict[str, object] = {}
    for name in _DEFINITIONS:
        if name in rest:
            said[name] = {key: _said(value) for key, value in _mapping(rest.pop(name)).items()}
    for name in _KEPT:
        if name in rest:
            said[name] = rest.pop(name)
    description = rest.pop("description", "")
    if "$ref" in rest:
        said["$ref"] = rest.pop("$ref")
    elif "enum" in rest or "const" in rest:
        _say_values(rest, said)
    elif "anyOf" in rest or "oneOf" in rest:
        choices = rest.pop("anyOf", None) or rest.pop("oneOf", None)
        said["anyOf"] = [_said(each) for each in _list(choices)]
        if "properties" in rest or "items" in rest:
            raise _Unsupported  # both at once would need an intersection
    else:
        _say_type(rest, said)
    if rest:
        unsaid = msgspec.json.encode(rest).decode()
        description = f"{description}\n\n{unsaid}" if description else unsaid
    if description:
        said["description"] = description
    return said


def _say_values(rest: dict[str, object], said: dict[str, object]) -> None:
    for name in ("enum", "const"):
        if name in rest:
            values = _list(rest[name]) if name == "enum" else [rest[name]]
            if any(isinstance(value, dict | list) for value in values):
                raise _Unsupported
            said[name] = rest.pop(name)
    rest.pop("type", None)


def _say_type(rest: dict[str, object], said: dict[str, object]) -> None:
    kind = rest.pop("type", None)
    if _is_list(kind):
        said["anyOf"] = [_said({**rest, "type": each}) for each in kind]
        rest.clear()
        return
    if kind is None and "properties" in rest:
        kind = "object"
    match kind:
        case "object":
            _say_object(rest, said)
        case "array":
            if "prefixItems" in rest or _is_list(rest.get("items")):
                raise _Unsupported
            if "items" in rest:
                said["items"] = _said(rest.pop("items"))
            if rest.get("minItems") in (0, 1):
                said["minItems"] = rest.pop("minItems")
        case "string":
            if rest.get("format") in _FORMATS:
                said["format"] = rest.pop("format")
        case "integer" | "number" | "boolean" | "null":
            pass
        case _:
            raise _Unsupported
    said["type"] = kind


def _say_object(rest: dict[str, object], said: dict[str, object]) -> None:
    properties = _mapping(rest.pop("properties", {}))
    extra = rest.pop("additionalProperties", None)
    if _is_mapping(extra) or "patternProperties" in rest or (not properties and extra is not False):
        raise _Unsupported  # a free map: closing the object would leave only the empty one
    said["properties"] = {name: _said(value) for name, value in properties.items()}
    said["additionalProperties"] = False
    if "required" in rest:
        said["required"] = rest.pop("required")


def _refuse_recursion(root: Mapping[str, object]) -> None:
    """Raise when following references from any definition leads back to it, or leaves the definitions."""
    targets: dict[str, set[str]] = {}
    for group in _DEFINITIONS:
        for name, definition in _mapping(root.get(group, {})).items():
            targets[f"#/{group}/{name}"] = _references(definition)
    known = set(targets)
    if not _references({key: value for key, value in root.items() if key not in _DEFINITIONS}) <= known:
        raise _Unsupported
    while targets:
        leaves = {name for name, wanted in targets.items() if not wanted}
        if not leaves:
            raise _Unsupported
        targets = {name: wanted - leaves for name, wanted in targets.items() if name not in leaves}


def _references(value: object) -> set[str]:
    found: set[str] = set()
    if _is_mapping(value):
        for key, each in value.items():
            found |= {each} if key == "$ref" and isinstance(each, str) else _references(each)
    elif _is_list(value):
        for each in value:
            found |= _references(each)
    return found


def _mapping(value: object) -> dict[str, object]:
    if not _is_mapping(value):
        raise _Unsupported
    return value


def _list(value: object) -> list[object]:
    if not _is_list(value):
        raise _Unsupported
    return value


def _is_mapping(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)
