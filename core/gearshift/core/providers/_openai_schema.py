"""Which JSON Schemas OpenAI's strict mode takes.

Rules: pure. What strict mode refuses is never sent as strict; it is not rewritten either, since the answer is checked
against the caller's own schema. Source: https://platform.openai.com/docs/guides/structured-outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from gearshift.core.failures import ProviderFailure
from gearshift.core.words import FailureKind


@dataclass(frozen=True, slots=True)
class WireSchema:
    """A schema as text of JSON, and what OpenAI's modes ask of it."""

    raw: msgspec.Raw
    is_object: bool
    is_strict: bool


@lru_cache(maxsize=256)
def read_schema(text: str) -> WireSchema:
    """Read a JSON Schema, once for each text.

    Raises:
        ProviderFailure: INVALID_REQUEST, when it is not JSON.
    """
    try:
        document: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ProviderFailure(FailureKind.INVALID_REQUEST, "a schema is not JSON") from error
    node = _mapping(document)
    is_object = node.get("type") == "object"
    return WireSchema(msgspec.Raw(text.encode()), is_object, is_object and _is_strict(node, 0))


_STRICT_WORDS = frozenset(
    {
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "definitions",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
_STRICT_DEPTH = 10
"""Levels of nesting: https://platform.openai.com/docs/guides/structured-outputs."""


def _is_strict(schema: object, depth: int) -> bool:
    """Tell whether a schema is in the subset that strict mode takes."""
    node = _mapping(schema)
    if not node or depth > _STRICT_DEPTH or not _STRICT_WORDS.issuperset(node):
        return False
    properties = _mapping(node.get("properties"))
    is_closed = node.get("additionalProperties") is False and set(_items(node.get("required"))) == set(properties)
    if (node.get("type") == "object" or properties) and not is_closed:
        return False
    if depth == 0 and "anyOf" in node:
        return False
    below = [*properties.values(), *_mapping(node.get("$defs")).values(), *_mapping(node.get("definitions")).values()]
    below.extend(_items(node.get("anyOf")))
    if "items" in node:
        below.append(node["items"])
    return all(_is_strict(each, depth + 1) for each in below)


def _mapping(value: object) -> dict[str, object]:
    """Give a JSON object as what it is, anything else as an empty one."""
    return msgspec.convert(value, dict[str, object]) if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    return msgspec.convert(value, list[object]) if isinstance(value, list) else []
