"""What is said about a document that is not valid, and about a schema that is not."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.schema import SchemaCache, SchemaError, SchemaLimits, compile_schema

ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"price": {"type": "number"}, "kind": {"enum": ["book", "pen"]}},
                "required": ["price"],
                "additionalProperties": False,
            },
        },
        "note": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["id", "items"],
}


def issues(schema: Any, value: Any) -> list[str]:
    return [str(issue) for issue in compile_schema(schema).check(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": 1, "items": [{"price": 2.5}]}, []),
        ({"id": 1}, ['(root): the property "items" is missing']),
        ([], ["(root): expected object, got array"]),
        ({"id": 1, "items": [{"price": "2"}]}, ["/items/0/price: expected number, got string"]),
        ({"id": 1, "items": []}, ["/items: expected at least 1 item, got 0"]),
        ({"id": 0, "items": [{"price": 1}]}, ["/id: expected at least 1, got 0"]),
        (
            {"id": 1, "items": [{"price": 1, "kind": "cup"}]},
            ['/items/0/kind: expected one of "book", "pen", got "cup"'],
        ),
        (
            {"id": 1, "items": [{"prize": 1}]},
            [
                '/items/0: the property "price" is missing',
                '/items/0/prize: is not an allowed property; not yet used: "price", "kind"',
            ],
        ),
        ({"id": 1.5, "items": [{"price": 1}]}, ["/id: expected integer, got number"]),
        (
            {"id": 1, "items": [{"price": 1}], "note": "too long"},
            ["/note: expected at most 5 characters, got 8"],
        ),
        (
            {"id": True, "items": [{"price": 1}], "note": 3},
            ["/id: expected integer, got boolean", "/note: expected string or null, got integer"],
        ),
    ],
)
def test_issue_names_the_place_and_what_is_expected(value: Any, expected: list[str]) -> None:
    assert issues(ORDER, value) == expected


CAT = {
    "type": "object",
    "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
    "required": ["kind", "lives"],
}
DOG = {
    "type": "object",
    "properties": {"kind": {"const": "dog"}, "name": {"type": "string"}},
    "required": ["kind", "name"],
}


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"kind": "cat"}, ['(root): the property "lives" is missing']),
        ({"kind": "dog", "name": 3}, ["/name: expected string, got integer"]),
        (7, ["(root): expected object or null, got integer"]),
        (
            {"kind": "cow"},
            ['(root): matches none of the 3 allowed forms; the closest: the property "lives" is missing'],
        ),
    ],
)
def test_branch_that_was_probably_meant_is_explained(keyword: str, value: Any, expected: list[str]) -> None:
    assert issues({keyword: [CAT, DOG, {"type": "null"}]}, value) == expected


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"oneOf": [{"minimum": 1}, {"maximum": 9}]}, 5, "(root): matches 2 of 2 forms, but must match exactly one"),
        ({"not": {"type": "null"}}, None, "(root): has a form that `not` (of type) forbids"),
        ({"multipleOf": 0.1}, 0.35, "(root): expected a multiple of 0.1, got 0.35"),
        ({"uniqueItems": True}, [1, {"a": 1}, {"a": 1.0}], "/2: is the same as item 1; items must be unique"),
        ({"contains": {"const": 1}}, [2], "(root): expected at least 1 item like its `contains`, found 0"),
        ({"contains": True, "maxContains": 1}, [2, 2], "(root): expected at most 1 item like its `contains`, found 2"),
        ({"prefixItems": [True], "items": False}, [1, 2], "(root): expected at most 1 item, got 2"),
        (
            {"propertyNames": {"maxLength": 2}},
            {"abc": 1},
            '(root): the property name "abc": expected at most 2 characters, got 3',
        ),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, '(root): the property "b" is missing, since "a" is there'),
        ({"properties": {"a": True}, "unevaluatedProperties": False}, {"a": 1, "b/c": 1}, "/b~1c: is not allowed"),
        ({"pattern": "^a"}, "b", '(root): "b" does not match the pattern ^a'),
        ({"const": {"a": 1}}, 2, "(root): expected this object, got 2"),
        ({"if": {"minimum": 5}, "then": {"multipleOf": 5}}, 7, "(root): expected a multiple of 5, got 7"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, 1, "(root): expected null, got integer"),
        ({"exclusiveMaximum": 3}, 3, "(root): expected less than 3, got 3"),
        ({"enum": list(range(20))}, 99, "(root): expected one of 0, 1, 2, 3, 4, 5, 6, 7 and 12 more, got 99"),
        (False, 1, "(root): is not allowed"),
    ],
)
def test_each_keyword_has_its_words(schema: Any, value: Any, expected: str) -> None:
    assert issues(schema, value) == [expected]


def test_number_of_issues_is_limited() -> None:
    schema = compile_schema({"items": {"type": "string"}}, limits=SchemaLimits(issues=3))

    assert len(schema.check(list(range(100)))) == 3


def test_long_values_are_cut() -> None:
    (issue,) = compile_schema({"const": "x" * 500}).check("y" * 500)

    assert len(issue.message) < 200


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "strin"}, "/type"),
        ({"properties": {"a/b": {"type": ["string", "string"]}}}, "/properties/a~1b/type"),
        ({"items": [True]}, "/items"),
        ({"required": "a"}, "/required"),
        ({"required": ["a", "a"]}, "/required"),
        ({"minLength": -1}, "/minLength"),
        ({"minLength": 1.5}, "/minLength"),
        ({"minimum": "1"}, "/minimum"),
        ({"minimum": True}, "/minimum"),
        ({"exclusiveMinimum": True}, "/exclusiveMinimum"),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"allOf": list[bool]()}, "/allOf"),
        ({"anyOf": [True, 3]}, "/anyOf/1"),
        ({"not": None}, "/not"),
        ({"enum": "a"}, "/enum"),
        ({"additionalProperties": "no"}, "/additionalProperties"),
        ({"$defs": {"a": {"pattern": 3}}}, "/$defs/a/pattern"),
        ({"$id": "http://x/#a"}, "/$id"),
        ({"$anchor": "a b"}, "/$anchor"),
        ({"$ref": 3}, "/$ref"),
        ({"$ref": "#/$defs/a"}, "/$ref"),
        ({"$ref": "#a"}, "/$ref"),
        ({"$ref": "#/type", "type": "string"}, "/$ref"),
        ({"$schema": "http://example.com/mine"}, "/$schema"),
        ({"uniqueItems": 1}, "/uniqueItems"),
        ({"dependentRequired": {"a": [1]}}, "/dependentRequired/a"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": 1}}, "/definitions/a"),
        ('{"type": "object", "type": "array"}', ""),
        ("not json", ""),
        (["a"], ""),
    ],
)
def test_fault_of_a_schema_is_named_with_its_place(schema: Any, pointer: str) -> None:
    with pytest.raises(SchemaError) as raised:
        compile_schema(schema)

    assert raised.value.pointer == pointer


def test_unknown_keywords_are_allowed() -> None:
    assert compile_schema({"x-order": 3, "type": "null", "additionalItems": 5}).is_valid(None)


SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(0, 2) | st.sampled_from(["string", "a", "#"])
KEYWORDS = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "minimum",
        "multipleOf",
        "minLength",
        "maxItems",
        "required",
        "properties",
        "items",
        "allOf",
        "anyOf",
        "not",
        "if",
        "then",
        "prefixItems",
        "dependentRequired",
        "propertyNames",
        "uniqueItems",
        "title",
        "deprecated",
        "examples",
        "$comment",
        "format",
        "$defs",
        "contains",
    ]
)
ROUGH_SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=8,
)
METASCHEMA = compile_schema({"$ref": "https://json-schema.org/draft/2020-12/schema"})


@settings(max_examples=300)
@given(ROUGH_SCHEMAS)
def test_schema_is_refused_exactly_when_the_metaschema_says_so(raw: Any) -> None:
    try:
        compile_schema(raw)
        is_accepted = True
    except SchemaError:
        is_accepted = False

    assert is_accepted is METASCHEMA.is_valid(raw) or isinstance(raw, str)


def test_cache_gives_the_same_schema_for_equal_ones() -> None:
    cache = SchemaCache(max_schemas=2)

    first = cache.get({"type": "string", "minLength": 1})

    assert cache.get({"minLength": 1.0, "type": "string"}) is first
    assert cache.statistics() == {"schemas": 1, "nodes": 1, "hits": 1, "misses": 1}


def test_cache_forgets_what_was_used_longest_ago() -> None:
    cache = SchemaCache(max_schemas=2)
    first, second = cache.get({"const": 1}), cache.get('{"const": 2}')
    cache.get({"const": 1})

    cache.get({"const": 3})

    assert len(cache) == 2
    assert cache.get({"const": 1}) is first
    assert cache.get('{"const": 2}') is not second


def test_cache_is_bounded_in_nodes() -> None:
    cache = SchemaCache(max_nodes=50)
    for number in range(10):
        cache.get({"properties": {f"p{number}-{index}": {} for index in range(20)}})

    assert cache.statistics()["nodes"] <= 50


def test_cache_keeps_nothing_of_a_bad_schema() -> None:
    cache = SchemaCache()

    with pytest.raises(SchemaError):
        cache.get({"type": 3})

    assert len(cache) == 0


def test_compiled_schema_can_be_inspected() -> None:
    schema = compile_schema(ORDER)

    assert [keyword.name for keyword in schema.root.keywords] == ["type", "required", "properties"]
    assert {node.pointer for node in schema.nodes} >= {"", "/properties/items/items/properties/price"}
    assert len(schema.digest) == 64
