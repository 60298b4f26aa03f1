"""Each keyword stops a document at the character that decides, and not before."""

from typing import Any

import pytest

from gearshift.core.schema import compile_schema
from tests.support.json_cuts import agrees

OPEN: dict[str, Any] = {"type": "object"}


def closed(*names: str) -> dict[str, Any]:
    return {"properties": dict.fromkeys(names, True), "additionalProperties": False}


def kind(name: str, *required: str) -> dict[str, Any]:
    return {"properties": {"kind": {"const": name}}, "required": ["kind", *required]}


def shape(name: str, size: str) -> dict[str, Any]:
    return {"properties": {"kind": {"const": name}, size: {"type": "number"}}, "additionalProperties": False}


# The mark ^ stands before the character that stops; it is not part of the document.
@pytest.mark.parametrize(
    ("schema", "marked", "keyword"),
    [
        # first byte of a value
        pytest.param({"type": "object"}, "^[1]", "type", id="type of the root"),
        pytest.param({"properties": {"a": {"type": "string"}}}, '{"a": ^12}', "type", id="type of a member"),
        pytest.param({"properties": {"a": {"type": "null"}}}, '{"a": ^true}', "type", id="type of a literal"),
        pytest.param({"items": {"type": "integer"}}, '[1, ^"2"]', "type", id="type of an item"),
        pytest.param({"prefixItems": [True, {"type": "string"}]}, '["a", ^1]', "type", id="type of the item due"),
        pytest.param(False, "^{}", "false", id="false schema"),
        pytest.param({"properties": {"a": False}}, '{"a": ^1}', "false", id="false schema of a member"),
        pytest.param({"enum": ["a", "b"]}, "^1", "enum", id="kind that an enum does not have"),
        pytest.param(
            {"patternProperties": {"^x-": True}, "additionalProperties": False},
            '{"x-a": 1, "y": ^1}',
            "false",
            id="additionalProperties beside patterns",
        ),
        pytest.param({"maxItems": 2}, "[1, 2, ^3]", "maxItems", id="maxItems"),
        pytest.param({"items": False}, "[^1]", "false", id="no items"),
        pytest.param({"prefixItems": [True], "items": False}, "[1, ^[]]", "false", id="too many items"),
        # inside a value
        pytest.param({"maxLength": 3}, '"abc^d"', "maxLength", id="maxLength"),
        pytest.param({"maxLength": 1}, '"é^è"', "maxLength", id="maxLength in code points"),
        pytest.param({"maxLength": 1}, '"\\n\\u00e^9"', "maxLength", id="maxLength at the last digit of an escape"),
        pytest.param({"maxLength": 1}, '"\\ud83d\\ude00^!"', "maxLength", id="surrogate pair is one character"),
        pytest.param({"enum": ["open", "closed"]}, '"ope^rational"', "enum", id="enum by character"),
        pytest.param({"enum": ["open", "openly"]}, '"open^s"', "enum", id="enum where one begins another"),
        pytest.param({"enum": ["open", "é"]}, '"\\u00e^8"', "enum", id="enum with an escape"),
        pytest.param({"const": "abc"}, '"ab^d"', "const", id="const by character"),
        pytest.param({"const": "abc"}, '"ab^"', "const", id="const that ends too early"),
        pytest.param(
            closed("name", "age"), '{"na^mme": 1}'.replace("mm", "x"), "additionalProperties", id="closed key"
        ),
        pytest.param(closed("name", "age"), '{"name": 1, "a^ddress": 1}', "additionalProperties", id="second key"),
        pytest.param(closed("name"), '{"nam^": 1}', "additionalProperties", id="closed key that ends too early"),
        pytest.param(closed("name"), '{"name^s": 1}', "additionalProperties", id="closed key that goes on"),
        pytest.param(closed("né"), '{"n\\u00e^8": 1}', "additionalProperties", id="closed key with an escape"),
        # end of a scalar
        pytest.param({"items": {"type": "integer"}}, "[1.5e1, 1.5^]", "type", id="integer"),
        pytest.param({"items": {"maximum": 10}}, "[10, 12^, 1]", "maximum", id="maximum"),
        pytest.param({"items": {"exclusiveMinimum": 0}}, "[0^]", "exclusiveMinimum", id="exclusiveMinimum"),
        pytest.param({"items": {"multipleOf": 0.1}}, "[0.3, 0.35^ ]", "multipleOf", id="multipleOf"),
        pytest.param({"minLength": 3}, '"ab^"', "minLength", id="minLength"),
        pytest.param({"pattern": "^a"}, '"ba^"', "pattern", id="pattern"),
        pytest.param({"const": True}, "fals^e", "const", id="literal"),
        pytest.param({"items": {"enum": [1, 2]}}, "[1, 3^]", "enum", id="number in an enum"),
        # end of an item or key
        pytest.param({"uniqueItems": True}, "[1, 2, 1.0^, 3]", "uniqueItems", id="uniqueItems of numbers"),
        pytest.param({"uniqueItems": True}, '["a", "b", "a^"]', "uniqueItems", id="uniqueItems of strings"),
        pytest.param(
            {"uniqueItems": True}, '[{"a": 1, "b": []}, {"b": [], "a": 1^}]', "uniqueItems", id="uniqueItems of objects"
        ),
        pytest.param(
            {"contains": {"type": "null"}, "maxContains": 1}, "[null, 1, nul^l]", "maxContains", id="maxContains"
        ),
        pytest.param({"propertyNames": {"maxLength": 2}}, '{"ab": 1, "abc^": 1}', "propertyNames", id="propertyNames"),
        pytest.param({"maxProperties": 1}, '{"a": 1, "b^": 1}', "maxProperties", id="maxProperties"),
        pytest.param(
            {"dependentSchemas": {"b": {"properties": {"a": {"type": "string"}}}}},
            '{"a": 1, "b^": 1}',
            "dependentSchemas",
            id="dependentSchemas that failed before",
        ),
        pytest.param(
            {"dependentSchemas": {"b": {"properties": {"a": {"type": "string"}}}}},
            '{"b": 1, "a": ^1}',
            "type",
            id="dependentSchemas that fails after",
        ),
        pytest.param({"dependentSchemas": {"b": False}}, '{"b^": 1}', "dependentSchemas", id="forbidden property"),
        # end of a container
        pytest.param({"required": ["a", "b"]}, '{"a": 1^}', "required", id="required"),
        pytest.param({"minItems": 2}, "[1^]", "minItems", id="minItems"),
        pytest.param({"minProperties": 1}, "{^}", "minProperties", id="minProperties"),
        pytest.param({"contains": {"type": "null"}}, "[1, 2^]", "contains", id="contains"),
        pytest.param({"dependentRequired": {"a": ["b"]}}, '{"a": 1^}', "dependentRequired", id="dependentRequired"),
        pytest.param({"enum": [[1, 2], OPEN]}, "[1, 3^]", "enum", id="enum of containers"),
        pytest.param({"const": {"a": 1}}, '{"a": 1, "b": 1^}', "const", id="const of a container"),
        pytest.param(
            {"properties": {"a": True}, "unevaluatedProperties": False},
            '{"a": 1, "b": 1^}',
            "unevaluatedProperties",
            id="unevaluatedProperties",
        ),
        pytest.param(
            {"prefixItems": [True], "unevaluatedItems": {"type": "null"}},
            "[1, null, 2^]",
            "unevaluatedItems",
            id="unevaluatedItems",
        ),
        # by logic
        pytest.param({"allOf": [OPEN, {"properties": {"a": OPEN}}]}, '{"a": ^1}', "type", id="allOf: first failure"),
        pytest.param({"$ref": "#/$defs/a", "$defs": {"a": OPEN}}, "^1", "type", id="$ref"),
        pytest.param(
            {"anyOf": [{"type": "string"}, {"type": "null"}]}, "^1", "anyOf", id="anyOf that the kind decides"
        ),
        pytest.param({"anyOf": [{"maxLength": 2}, {"enum": ["abcd"]}]}, '"abc^e"', "enum", id="anyOf within a string"),
        pytest.param({"anyOf": [{"maxLength": 4}, {"enum": ["abd"]}]}, '"abcd^e"', "maxLength", id="the last of two"),
        pytest.param(
            {"anyOf": [kind("circle"), kind("square")]}, '{"kind": "c^at"}', "const", id="anyOf: all branches dead"
        ),
        pytest.param(
            {"oneOf": [shape("circle", "radius"), shape("square", "side")]},
            '{"kind": "circle", "^side": 1}',
            "additionalProperties",
            id="oneOf: key of the branch that is dead",
        ),
        pytest.param(
            {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, '{"a": 1, "b": 1^}', "oneOf", id="two match"
        ),
        pytest.param({"not": {"required": ["a"]}}, '{"a": 1, "b": 2^}', "not", id="not: at the end of the value"),
        pytest.param({"not": {"type": "string"}}, '^"a"', "not", id="not that the kind decides"),
        pytest.param(
            {"not": {"properties": {"a": {"const": "x"}}}}, '{"a": "x"^}', "not", id="not that its members decide"
        ),
        pytest.param(
            {"if": kind("a"), "then": {"required": ["x"]}, "else": {"properties": {"y": OPEN}}},
            '{"kind": "b", "y": ^1}',
            "type",
            id="else once the condition is dead",
        ),
        pytest.param(
            {"if": kind("a"), "then": {"required": ["x"]}, "else": {"properties": {"y": OPEN}}},
            '{"y": 1, "kind": "^b"}',
            "const",
            id="condition that dies after else",
        ),
        pytest.param(
            {"if": kind("a"), "then": {"properties": {"y": OPEN}}, "else": {"properties": {"y": {"maxProperties": 0}}}},
            '{"y": 1, "kind": "a"^}',
            "then",
            id="then waits for the condition",
        ),
        pytest.param(
            {"if": kind("a"), "then": {"properties": {"y": OPEN}}, "else": {"properties": {"y": {"type": "array"}}}},
            '{"y": ^1, "kind": "a"}',
            "type",
            id="neither then nor else",
        ),
        # no schema is needed
        pytest.param(True, '{"a": 1, "a^": 2}', "json", id="duplicate key"),
        pytest.param(True, "[^NaN]", "json", id="NaN"),
        pytest.param(True, "[-^Infinity]", "json", id="infinity"),
        pytest.param(True, '"\\ud83d^x"', "json", id="half of a surrogate pair"),
        pytest.param(True, '"\\ud^e00"', "json", id="second half alone"),
        pytest.param(True, "{} ^x", "json", id="text after the document"),
        pytest.param(True, "[1,^]", "json", id="comma before a bracket"),
        pytest.param(True, "[0^1]", "json", id="leading zero"),
        pytest.param(True, "[1.^]", "json", id="number without digits"),
        pytest.param(True, "tr^eu", "json", id="literal that is none"),
        pytest.param(True, '{"a"^ 1}'.replace(" ", ","), "json", id="no colon"),
        pytest.param(True, "[" * 128 + "^[", "json", id="too deep"),
        pytest.param(True, "1" * 400 + "^1", "json", id="number too long"),
        pytest.param(True, "[1e999^]", "json", id="number out of range"),
    ],
)
def test_document_is_stopped_at_the_character_that_decides(schema: Any, marked: str, keyword: str) -> None:
    before, after = marked.rsplit("^", 1) if keyword != "pattern" else marked.split("^")
    compiled = compile_schema(schema)

    issue = agrees(compiled, before + after)

    assert issue is not None
    assert issue.offset == len(before), issue
    assert issue.keyword == keyword, issue


@pytest.mark.parametrize(
    ("schema", "text", "pointer", "keyword", "message"),
    [
        (
            {"properties": {"a": {"items": {"type": "string"}}}},
            '{"a": ["x", 5]}',
            "/a/1",
            "type",
            "expected string, got number",
        ),
        ({"required": ["b/c"]}, '{"a": 1}', "", "required", 'the property "b/c" is missing'),
        (
            {"properties": {"a": {"required": ["b"]}}},
            '{"a": {}}',
            "/a",
            "required",
            'the property "b" is missing',
        ),
        ({"properties": {"a~/": {"maximum": 1}}}, '{"a~/": 2}', "/a~0~1", "maximum", "expected at most 1, got 2"),
        (
            {"items": closed("name", "age")},
            '[{"name": 1, "size": 2}]',
            "/0",
            "additionalProperties",
            'the property is not allowed; not yet used: "age"',
        ),
        (
            {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "null"}}}]},
            '{"a": 1}',
            "/a",
            "type",
            "expected null, got number; no other form of anyOf is left",
        ),
    ],
)
def test_issue_names_the_place_and_the_reason(schema: Any, text: str, pointer: str, keyword: str, message: str) -> None:
    issue = agrees(compile_schema(schema), text)

    assert issue is not None
    assert (issue.pointer, issue.keyword, issue.message) == (pointer, keyword, message)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"anyOf": [{"maxLength": 2}, {"enum": ["abcd"]}]}, '"abcd"'),
        ({"not": {"maxLength": 2}}, '"abc"'),
        ({"not": {"not": {"maxLength": 3}}}, '"abc"'),
        ({"if": {"maxLength": 1}, "then": {"const": "a"}, "else": {"maxLength": 3}}, '"bcd"'),
        ({"contains": {"const": "abc"}}, '["abd", "abc"]'),
        ({"unevaluatedItems": {"const": "a"}, "anyOf": [{"prefixItems": [True, True]}]}, '["b", "c", "a"]'),
        ({"dependentSchemas": {"z": {"properties": {"a": {"type": "string"}}}}}, '{"a": 1}'),
        ({"not": {"properties": {"a": {"const": "x"}}}}, '{"a": "y", "b": 1}'),
        ({"not": {"items": {"type": "string"}}}, '["a", 1, "b"]'),
        ({"contains": {"required": ["a"]}, "minContains": 0, "maxContains": 1}, '[{}, {"a": 1}, {}]'),
        ({"if": {"required": ["a"]}, "then": {"maxProperties": 1}}, '{"b": 1, "c": 2}'),
        ({"anyOf": [kind("a", "x"), kind("b", "y"), kind("c", "z")]}, '{"kind": "c", "z": 1}'),
        ({"enum": [1.0]}, "1"),
        ({"type": "integer"}, "1.5e1"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, '{"b": 1}'),
    ],
)
def test_valid_document_is_never_stopped(schema: Any, text: str) -> None:
    assert agrees(compile_schema(schema), text) is None
