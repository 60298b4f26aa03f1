"""On generated schemas and documents the incremental checker says what the full validator says, however the text is cut."""

import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gearshift.core.schema import Schema, SchemaError, compile_schema
from gearshift.core.schema.streaming import StreamIssue
from tests.core.test_schema_differential import DOCUMENTS, DRAFT_07, DRAFT_2020_12, documents_of
from tests.support.json_cuts import agrees, is_valid

NAMES = ("a", "b", "c", "x-d")
TEXTS = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    DOCUMENTS,
    st.sampled_from([None, None, 1]),
    st.booleans(),
)
MEMBERS = ("1", "null", '""', '"ab"', "[]", "{}", "true", "1.5")


def completions(text: str) -> list[str]:
    """Return some documents that begin with text: its open value ended, members and items added, all closed."""
    stack: list[str] = []
    in_string = escaped = False
    for char in text:
        if in_string:
            in_string, escaped = escaped or char != '"', not escaped and char == "\\"
        elif char == '"':
            in_string = True
        elif char in "{[":
            stack.append("}" if char == "{" else "]")
        elif char in "}]":
            stack.pop()
    closing = "".join(reversed(stack))
    ends = (
        ['"', 'b"', '": 1', '": null', '": "ab"', '-d": 1', 'c": {}'] if in_string else ["", "0", "e1", ": 1", ": []"]
    )
    ends += ["rue", "alse", "ull", '"a": 1', *MEMBERS]
    found = [text + end + closing for end in ends]
    if stack:
        more = [f', "{name}": {member}' for name in NAMES for member in MEMBERS] + [f", {item}" for item in MEMBERS]
        found += [text + end + addition + closing for end in ends for addition in more]
    return found


def check(schema: Schema, texts: list[str]) -> None:
    for text in texts:
        issue: StreamIssue | None = agrees(schema, text)
        if issue is not None and issue.keyword != "json" and issue.offset < len(text):
            for document in completions(text[: issue.offset + 1]):
                assert not is_valid(schema, document), (schema.canonical, issue, document)


@settings(max_examples=300, deadline=None)
@given(documents_of(DRAFT_2020_12), st.lists(TEXTS, min_size=3, max_size=6))
def test_2020_12_is_judged_as_a_whole_document_in_any_cut(schema: dict[str, Any], texts: list[str]) -> None:
    check(compile_schema(schema), texts)


@settings(max_examples=200, deadline=None)
@given(documents_of(DRAFT_07), st.lists(TEXTS, min_size=3, max_size=6))
def test_draft_07_is_judged_as_a_whole_document_in_any_cut(schema: dict[str, Any], texts: list[str]) -> None:
    check(compile_schema(schema), texts)


def written_for(schema: Any, chance: random.Random, depth: int = 0) -> Any:
    """Return a document that a schema may well accept, now and then off in one place."""
    if not isinstance(schema, dict) or depth > 6 or chance.random() < 0.06:
        return chance.choice(SAMPLES)
    if "const" in schema and chance.random() < 0.9:
        return schema["const"]
    if "enum" in schema and chance.random() < 0.9:
        return chance.choice(schema["enum"])
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema and chance.random() < 0.7:
            return merged(schema, written_for(chance.choice(schema[keyword]), chance, depth + 1), chance, depth)
    if "then" in schema and chance.random() < 0.5:
        return merged(schema, written_for(schema["then"], chance, depth + 1), chance, depth)
    types = schema.get("type", chance.choice(["object", "array", "string", "integer"]))
    kind = chance.choice(types) if isinstance(types, list) else types
    if kind == "object":
        return merged(schema, {}, chance, depth)
    if kind == "array":
        prefix = schema.get("prefixItems", schema["items"] if isinstance(schema.get("items"), list) else [])
        rest = schema.get("items", schema.get("contains", True))
        rest = True if isinstance(rest, list) else rest
        count = chance.randint(schema.get("minItems", 0), schema.get("minItems", 0) + 3)
        return [written_for(prefix[i] if i < len(prefix) else rest, chance, depth + 1) for i in range(count)]
    if kind == "string":
        return "".join(chance.choice("abxé-d") for _ in range(schema.get("minLength", 0) + chance.randint(0, 2)))
    return chance.choice([True, None]) if kind in ("boolean", "null") else chance.choice([0, 1, 2, 3, 2.0, 1.5])


def merged(schema: dict[str, Any], base: Any, chance: random.Random, depth: int) -> Any:
    if not isinstance(base, dict):
        return base
    members = dict(base)
    known = schema.get("properties", {})
    for name in [*schema.get("required", []), *chance.sample(NAMES, chance.randint(0, 3))]:
        if name in known or chance.random() < 0.5:
            members.setdefault(name, written_for(known.get(name, True), chance, depth + 1))
    items = list(members.items())
    chance.shuffle(items)
    return dict(items)


SAMPLES = [0, 1, 2.5, True, None, "", "a", "ab", [], [1, 1], {}, {"a": 1}, {"b": "ab", "a": {}}]


def shaped(draft: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return schemas as people write them: objects and arrays with something to say about every part."""
    texts = st.sampled_from(["a", "ab", "abc", "b", "x-d", "é"])
    scalar = st.sampled_from(
        [{"type": "integer", "maximum": 2}, {"type": "boolean"}, {"type": ["string", "null"]}]
    ) | st.builds(
        lambda longest, shortest: {"type": "string", "maxLength": longest, "minLength": shortest},
        st.integers(0, 3),
        st.integers(0, 2),
    )
    listed = st.lists(texts, min_size=1, max_size=4).map(lambda values: {"enum": values})
    leaves = scalar | listed | texts.map(lambda value: {"const": value}) | st.booleans() | st.just({"$ref": "#"})

    def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        members = st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3)
        some = st.lists(inner, min_size=2, max_size=3)
        closing = ["additionalProperties"] if draft == DRAFT_07 else ["additionalProperties", "unevaluatedProperties"]
        rest = st.fixed_dictionaries({}, optional={name: st.just(False) | inner for name in closing})
        more: dict[str, st.SearchStrategy[Any]] = {
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
        if draft == DRAFT_2020_12:
            more |= {"dependentSchemas": members, "dependentRequired": st.just({"a": ["b"]})}
        extra = st.fixed_dictionaries({}, optional={}) | st.lists(
            st.sampled_from(sorted(more)), min_size=1, max_size=3, unique=True
        ).flatmap(lambda names: st.fixed_dictionaries({name: more[name] for name in names}))
        objects = st.builds(lambda p, r, e: {"type": "object", "properties": p} | r | e, members, rest, extra)
        lists: dict[str, st.SearchStrategy[Any]] = {
            "items": inner,
            "contains": inner,
            "maxItems": st.integers(1, 3),
            "minItems": st.integers(1, 2),
            "uniqueItems": st.just(True),
        }
        if draft == DRAFT_2020_12:
            lists |= {
                "prefixItems": some,
                "unevaluatedItems": st.just(False) | inner,
                "maxContains": st.integers(1, 2),
                "minContains": st.integers(0, 2),
                "anyOf": some,
            }
        arrays = st.lists(st.sampled_from(sorted(lists)), min_size=1, max_size=4, unique=True).flatmap(
            lambda names: st.fixed_dictionaries({"type": st.just("array")} | {name: lists[name] for name in names})
        )
        logic = st.sampled_from(["anyOf", "oneOf", "allOf"]).flatmap(lambda name: some.map(lambda nodes: {name: nodes}))
        return objects | objects | arrays | logic | inner.map(lambda node: {"not": {"not": node}})

    return st.recursive(leaves, grown, max_leaves=10).map(
        lambda body: {"$schema": draft, "$defs": {}} | (body if isinstance(body, dict) and "$ref" not in body else {})
    )


def written(schema: dict[str, Any], seed: int) -> list[str]:
    chance = random.Random(seed)
    documents = [written_for(schema, chance) for _ in range(6)]
    return [json.dumps(each, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])) for each in documents]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shaped(DRAFT_2020_12), st.integers(0, 10_000))
def test_documents_written_for_their_2020_12_schema_are_judged_alike(schema: dict[str, Any], seed: int) -> None:
    try:
        compiled = compile_schema(schema)
    except SchemaError as error:
        assert "would never end" in error.message  # the root refers to itself without a value between
        return
    check(compiled, written(schema, seed))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shaped(DRAFT_07), st.integers(0, 10_000))
def test_documents_written_for_their_draft_07_schema_are_judged_alike(schema: dict[str, Any], seed: int) -> None:
    try:
        compiled = compile_schema(schema)
    except SchemaError as error:
        assert "would never end" in error.message
        return
    check(compiled, written(schema, seed))
