"""Schemas as people write them, and documents that they may well accept."""

import json
import random
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from gearshift.core.schema.kinds import is_array, is_object

DRAFT_07: Final = "http://json-schema.org/draft-07/schema#"
NAMES: Final = ("a", "b", "c", "x-d")
SAMPLES: Final[list[Any]] = [0, 1, 2.5, True, None, "", "a", "ab", [], [1, 1], {}, {"a": 1}, {"b": "ab", "a": {}}]
NUMBERS: Final[list[Any]] = [0, 1, 2, 3, 2.0, 1.5]
WORDS: Final[tuple[str, ...]] = ("a", "ab", "abc", "b", "x-d", "é")
SCALARS: Final[list[dict[str, Any]]] = [
    {"type": "integer", "maximum": 2},
    {"type": "boolean"},
    {"type": ["string", "null"]},
    {"type": "string", "maxLength": 2},
    {"type": "string", "maxLength": 3, "minLength": 1},
    {"maxLength": 1},
]

Strategy = st.SearchStrategy[Any]


def shaped(draft: str) -> Strategy:
    """Return schemas of objects and arrays with something to say about every part; `$ref` is to the root."""
    words: st.SearchStrategy[str] = st.sampled_from(WORDS)
    listed: Strategy = st.lists(words, min_size=1, max_size=4).map(_enum)
    reference: dict[str, Any] = {"$ref": "#"}
    leaves: Strategy = st.sampled_from(SCALARS) | listed | words.map(_const) | st.booleans() | st.just(reference)

    def grown(inner: Strategy) -> Strategy:
        objects, arrays = _objects(inner, listed, draft), _arrays(inner, draft)
        logic: Strategy = st.sampled_from(["anyOf", "oneOf", "allOf"]).flatmap(
            lambda name: st.fixed_dictionaries({name: st.lists(inner, min_size=2, max_size=3)})
        )
        return objects | objects | objects | arrays | arrays | logic | inner.map(_not_not)

    inner: Strategy = st.recursive(leaves, grown, max_leaves=8)
    return st.builds(_joined, st.just({"$schema": draft}), grown(inner))


def written(schema: dict[str, Any], seed: int) -> list[str]:
    """Return documents for a schema, as texts, now and then off in one place."""
    chance = random.Random(seed)
    documents = [_written(schema, chance, 0) for _ in range(6)]
    return [json.dumps(each, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])) for each in documents]


def _objects(inner: Strategy, listed: Strategy, draft: str) -> Strategy:
    members: Strategy = st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3)
    some: Strategy = st.lists(inner, min_size=2, max_size=3)
    more: dict[str, Strategy] = {
        "additionalProperties": st.just(False) | inner,
        "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        "maxProperties": st.integers(1, 3),
        "propertyNames": listed,
        "anyOf": some,
        "oneOf": some,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=1),
    }
    if draft != DRAFT_07:
        more |= {
            "unevaluatedProperties": st.just(False) | inner,
            "dependentSchemas": members,
            "dependentRequired": st.just({"a": ["b"]}),
        }
    kind: dict[str, Strategy] = {"type": st.just("object"), "properties": members}
    return st.lists(st.sampled_from(sorted(more)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries(kind | {name: more[name] for name in names})
    )


def _arrays(inner: Strategy, draft: str) -> Strategy:
    some: Strategy = st.lists(inner, min_size=2, max_size=3)
    more: dict[str, Strategy] = {
        "items": inner,
        "contains": inner,
        "maxItems": st.integers(1, 3),
        "minItems": st.integers(1, 2),
        "uniqueItems": st.just(True),
    }
    if draft != DRAFT_07:
        more |= {
            "prefixItems": some,
            "unevaluatedItems": st.just(False) | inner,
            "maxContains": st.integers(1, 2),
            "minContains": st.integers(0, 2),
            "anyOf": some,
        }
    kind: dict[str, Strategy] = {"type": st.just("array")}
    return st.lists(st.sampled_from(sorted(more)), min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries(kind | {name: more[name] for name in names})
    )


def _enum(values: Sequence[str]) -> dict[str, Any]:
    return {"enum": list(values)}


def _const(value: str) -> dict[str, Any]:
    return {"const": value}


def _not_not(schema: Any) -> dict[str, Any]:
    return {"not": {"not": schema}}


def _joined(head: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return head | body


def _written(schema: Any, chance: random.Random, depth: int) -> Any:
    if not is_object(schema) or depth > 6 or chance.random() < 0.06:
        return chance.choice(SAMPLES)
    if "const" in schema and chance.random() < 0.9:
        return schema["const"]
    if "enum" in schema and chance.random() < 0.9:
        return chance.choice(schema["enum"])
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema and chance.random() < 0.7:
            return _members(schema, _written(chance.choice(schema[keyword]), chance, depth + 1), chance, depth)
    if "then" in schema and chance.random() < 0.5:
        return _members(schema, _written(schema["then"], chance, depth + 1), chance, depth)
    kinds: Any = schema.get("type", ["object", "array", "string", "integer"])
    kind: str = chance.choice(kinds) if is_array(kinds) else kinds
    if kind == "object":
        return _members(schema, {}, chance, depth)
    if kind == "array":
        return _items(schema, chance, depth)
    least: int = schema.get("minLength", 0)
    if kind == "string":
        return "".join(chance.choice("abxé-d") for _ in range(least + chance.randint(0, 2)))
    return chance.choice([True, None]) if kind in ("boolean", "null") else chance.choice(NUMBERS)


def _items(schema: dict[str, Any], chance: random.Random, depth: int) -> list[Any]:
    prefix: list[Any] = schema.get("prefixItems", [])
    rest: Any = schema.get("items", schema.get("contains", True))
    least: int = schema.get("minItems", 0)
    count = chance.randint(least, least + 3)
    return [_written(prefix[i] if i < len(prefix) else rest, chance, depth + 1) for i in range(count)]


def _members(schema: dict[str, Any], base: Any, chance: random.Random, depth: int) -> Any:
    if not is_object(base):
        return base
    members = dict(base)
    known: dict[str, Any] = schema.get("properties", {})
    for name in [*schema.get("required", []), *chance.sample(NAMES, chance.randint(0, 3))]:
        if name in known or chance.random() < 0.5:
            members.setdefault(name, _written(known.get(name, True), chance, depth + 1))
    items = list(members.items())
    chance.shuffle(items)
    return dict(items)
