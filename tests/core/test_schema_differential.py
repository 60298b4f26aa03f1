"""On generated schemas and documents, the verdict is that of Python's jsonschema."""

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.schema import compile_schema, parse_document

REFERENCE: Any = jsonschema
DRAFT_07 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"

NAMES = st.sampled_from(["a", "b", "c", "x-d"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 4)
    | st.sampled_from([0.0, 1.0, 1.5, 2.5, 1e20])
    | st.sampled_from(["", "a", "ab", "abc", "x-d", "é🐲"])
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
COUNTS = st.integers(0, 3)
PATTERNS = st.sampled_from(["^a", "b$", "^x-", "^[ab]+$", ".{2}"])


def leaf_keywords() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(DOCUMENTS, min_size=1, max_size=3),
        "const": DOCUMENTS,
        "minimum": st.integers(-2, 3),
        "exclusiveMaximum": st.integers(-2, 3),
        "multipleOf": st.integers(1, 3),
        "minLength": COUNTS,
        "maxLength": COUNTS,
        "pattern": PATTERNS,
        "minItems": COUNTS,
        "maxItems": COUNTS,
        "uniqueItems": st.booleans(),
        "minProperties": COUNTS,
        "maxProperties": COUNTS,
        "required": st.lists(NAMES, max_size=2, unique=True),
    }


def applied_keywords(inner: st.SearchStrategy[Any], draft: str) -> dict[str, st.SearchStrategy[Any]]:
    members = st.dictionaries(NAMES, inner, max_size=3)
    some = st.lists(inner, min_size=1, max_size=3)
    common = {
        "properties": members,
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "contains": inner,
        "allOf": some,
        "anyOf": some,
        "oneOf": some,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
    }
    if draft == DRAFT_07:
        return common | {
            # jsonschema fails on `additionalItems` beside a boolean `items`
            "items": inner.filter(lambda schema: not isinstance(schema, bool)) | some,
            "additionalItems": inner,
            "dependencies": st.dictionaries(NAMES, inner | st.lists(NAMES, max_size=2, unique=True), max_size=2),
        }
    return common | {
        "items": inner,
        "prefixItems": some,
        "minContains": COUNTS,
        "maxContains": COUNTS,
        "dependentSchemas": members,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "unevaluatedProperties": inner,
        "unevaluatedItems": inner,
    }


def mixed(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects of up to four of the keywords."""
    return st.lists(st.sampled_from(sorted(keywords)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: keywords[name] for name in names})
    )


def schemas(draft: str) -> st.SearchStrategy[Any]:
    references = st.sampled_from(["#/definitions/leaf", "#/definitions/tree"]).map(lambda target: {"$ref": target})
    leaves = st.booleans() | mixed(leaf_keywords()) | references
    return st.recursive(
        leaves,
        lambda inner: mixed(leaf_keywords() | applied_keywords(inner, draft)),
        max_leaves=8,
    )


def documents_of(draft: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return whole schemas; `tree` refers to itself, through a child, so that it ends."""

    def whole(body: Any, leaf: Any, branch: Any) -> dict[str, Any]:
        tree = {"anyOf": [branch, {"type": "integer"}], "properties": {"a": {"$ref": "#/definitions/tree"}}}
        root = {"allOf": [body]} if isinstance(body, bool) or "$ref" in body else body
        return {"$schema": draft, **root, "definitions": {"leaf": leaf, "tree": tree}}

    leaf = mixed(leaf_keywords())
    return st.builds(whole, schemas(draft), leaf, leaf)


def agrees(draft: str, kind: Any, schema: dict[str, Any], documents: list[Any]) -> None:
    ours = compile_schema(schema)
    theirs = kind(schema)
    for document in documents:
        verdict = ours.is_valid(document)
        assert verdict is theirs.is_valid(document), (draft, schema, document)
        assert (ours.check(document) == []) is verdict


@settings(max_examples=250, deadline=None)
@given(documents_of(DRAFT_2020_12), st.lists(DOCUMENTS, min_size=3, max_size=8))
def test_2020_12_verdict_is_that_of_jsonschema(schema: dict[str, Any], documents: list[Any]) -> None:
    agrees(DRAFT_2020_12, REFERENCE.Draft202012Validator, schema, documents)


@settings(max_examples=200, deadline=None)
@given(documents_of(DRAFT_07), st.lists(DOCUMENTS, min_size=3, max_size=8))
def test_draft_07_verdict_is_that_of_jsonschema(schema: dict[str, Any], documents: list[Any]) -> None:
    agrees(DRAFT_07, REFERENCE.Draft7Validator, schema, documents)


@pytest.mark.parametrize(
    ("divisor", "value", "is_multiple"),
    [
        (0.1, 0.3, True),
        (0.01, 1.15, True),
        (0.1, 0.35, False),
        (0.5, 1e308, True),
        (1e-8, 0.00000012, True),
        (3, 9.0, True),
        (2.0, 3, False),
        (1e20, 1e22, True),
        (7, 10**30, False),
        (1.5, 4.5, True),
    ],
)
def test_multiple_of_is_exact_in_decimal(divisor: float, value: float, is_multiple: bool) -> None:
    assert compile_schema({"multipleOf": divisor}).is_valid(value) is is_multiple


def test_whole_number_written_with_a_fraction_is_an_integer() -> None:
    schema = compile_schema({"type": "integer"})

    assert schema.is_valid(parse_document("1.5e1"))
    assert schema.is_valid(parse_document("2.0"))
    assert not schema.is_valid(parse_document("2.5"))
    assert not schema.is_valid(parse_document("true"))


def test_older_drafts_are_read_with_their_own_spelling() -> None:
    schema = compile_schema(
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "id": "http://example.com/root.json",
            "minimum": 3,
            "exclusiveMinimum": True,
            "properties": {"a": {"$ref": "http://example.com/root.json#/definitions/a"}},
            "definitions": {"a": {"type": "null"}},
        }
    )

    assert not schema.is_valid(3)
    assert schema.is_valid(4)
    assert not schema.is_valid({"a": 1})
