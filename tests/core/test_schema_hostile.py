"""Hostile schemas and documents: each ends soon, in a verdict or a typed error."""

from typing import Any

import pytest

from gearshift.core.schema import (
    CheckLimitError,
    DocumentError,
    SchemaError,
    SchemaLimitError,
    SchemaLimits,
    compile_schema,
)


def nested_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


def nested_list(depth: int, innermost: Any) -> Any:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


def doubling(keyword: str, leaf: Any, steps: int = 30) -> dict[str, Any]:
    """Return a schema that applies leaf 2 ** steps times to one value."""
    defs: dict[str, Any] = {
        f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(steps)
    }
    return {"$ref": "#/$defs/d0", "$defs": defs | {f"d{steps}": leaf}}


def shared(steps: int) -> dict[str, Any]:
    """Return a small graph of Python objects that is huge when written out."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(steps):
        schema = {"allOf": [schema, schema]}
    return schema


def cyclic() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    schema["not"] = schema
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(nested_schema(70), id="deep"),
        pytest.param(nested_schema(100_000), id="very deep"),
        pytest.param('{"not":' * 120 + "{}" + "}" * 120, id="deep text"),
        pytest.param('{"not":' * 200_000 + "{}" + "}" * 200_000, id="very deep text"),
        pytest.param({"enum": list(range(100_000))}, id="huge enum"),
        pytest.param({"description": "x" * 300_000}, id="huge text"),
        pytest.param({"properties": {f"p{i}": True for i in range(21_000)}}, id="many schemas"),
        pytest.param(shared(40), id="shared objects"),
        pytest.param(cyclic(), id="cyclic object"),
        pytest.param({"enum": ["x" * 100_000] * 100_000}, id="one text many times"),
        pytest.param({"minimum": 10**5000}, id="huge number"),
        pytest.param(doubling("allOf", {}, steps=70), id="long chain of references"),
        pytest.param({"patternProperties": {f"^{i}\\w{{1,500}}$": True for i in range(200)}}, id="many large patterns"),
    ],
)
def test_schema_beyond_a_limit_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaLimitError):
        compile_schema(schema)


def test_limits_are_the_callers() -> None:
    limits = SchemaLimits(schema_bytes=100)

    with pytest.raises(SchemaLimitError, match="more than 100 bytes"):
        compile_schema({"description": "x" * 100}, limits=limits)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"$ref": "#"}, id="itself"),
        pytest.param({"allOf": [{"$ref": "#"}]}, id="itself through allOf"),
        pytest.param({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, id="itself through anyOf"),
        pytest.param({"if": {"$ref": "#"}, "then": True}, id="itself through if"),
        pytest.param({"dependentSchemas": {"a": {"$ref": "#"}}}, id="itself through dependentSchemas"),
        pytest.param({"$dynamicAnchor": "a", "not": {"$dynamicRef": "#a"}}, id="itself through a dynamic reference"),
        pytest.param({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, id="two, and not even used"),
    ],
)
def test_schema_that_applies_itself_to_the_same_value_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError, match="would never end"):
        compile_schema(schema)


@pytest.mark.parametrize(
    "reference",
    ["http://169.254.169.254/latest", "https://example.com/s.json#/a", "file:///etc/passwd", "other.json", "urn:a:b"],
)
def test_remote_reference_is_refused_by_name(reference: str) -> None:
    with pytest.raises(SchemaError) as raised:
        compile_schema({"properties": {"a": {"$ref": reference}}})

    assert raised.value.pointer == "/properties/a/$ref"
    assert reference in raised.value.message


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_doubling_references_cost_no_more_than_their_number(keyword: str) -> None:
    schema = compile_schema(doubling(keyword, {"type": "string", "minLength": 3}), limits=SchemaLimits(work=2_000))

    assert schema.is_valid("abc") is (keyword != "oneOf")
    assert not schema.is_valid("a")
    assert schema.check("a") != []


def test_doubling_by_properties_costs_no_more_than_document_times_schema() -> None:
    member = {"properties": {"a": {"$ref": "#"}}}
    schema = compile_schema(
        {"type": "object", "allOf": [member, member, {"additionalProperties": {"$ref": "#"}}]},
        limits=SchemaLimits(work=5_000),
    )
    good: dict[str, Any] = {}
    bad: dict[str, Any] = {"a": 1}
    for _ in range(100):
        good, bad = {"a": good}, {"a": bad}

    assert schema.is_valid(good)
    assert not schema.is_valid(bad)
    assert len(schema.check(bad)) == 1


def test_doubling_below_unevaluated_properties_costs_no_more_than_document_times_schema() -> None:
    member = {"properties": {"a": {"$ref": "#"}}}
    schema = compile_schema(
        {"type": "object", "anyOf": [member, member], "unevaluatedProperties": False}, limits=SchemaLimits(work=10_000)
    )
    document: dict[str, Any] = {}
    for _ in range(60):
        document = {"a": document}

    assert schema.is_valid(document)


def test_too_much_work_is_a_typed_error() -> None:
    schema = compile_schema({"items": {"anyOf": [{"const": i, "minimum": i} for i in range(1000)]}})

    with pytest.raises(CheckLimitError):
        schema.is_valid([999] * 2000)


def test_large_value_is_compared_with_many_constants_by_one_text() -> None:
    schema = compile_schema({"not": {"anyOf": [{"const": {"a": [number]}} for number in range(5_000)]}})

    assert schema.is_valid({"a": list(range(20_000))})


def test_costly_pattern_on_a_long_text_is_a_typed_error() -> None:
    schema = compile_schema({"pattern": "(?:a|b)*a(?:a|b){900}c"})

    with pytest.raises(CheckLimitError):
        schema.is_valid("ab" * 500_000)


def test_large_pattern_that_is_quick_in_practice_is_not_refused() -> None:
    schema = compile_schema({"items": {"pattern": "^.{1,500}$"}})

    assert schema.is_valid(["é" * 400] * 200)
    assert not schema.is_valid(["é" * 400] * 200 + ["x" * 501])


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*x"])
def test_catastrophic_pattern_is_matched_in_linear_time(pattern: str) -> None:
    # A backtracking engine would need longer than the universe is old.
    assert not compile_schema({"pattern": pattern}).is_valid("a" * 20_000 + "!")


def test_recursive_document_is_checked_to_the_full_depth() -> None:
    schema = compile_schema({"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"const": 1}]})

    assert schema.is_valid(nested_list(128, 1))
    assert not schema.is_valid(nested_list(128, 2))
    assert schema.check(nested_list(128, 2)) != []


def test_document_deeper_than_the_stack_is_a_typed_error() -> None:
    schema = compile_schema({"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"const": 1}]})

    with pytest.raises(CheckLimitError):
        schema.is_valid(nested_list(100_000, 1))


def test_items_whose_hashes_collide_are_compared_in_linear_time() -> None:
    schema = compile_schema({"uniqueItems": True})
    prime = (1 << 61) - 1  # Python hashes integers modulo this

    assert schema.is_valid([index * prime for index in range(20_000)])
    assert not schema.is_valid([prime, 2 * prime, prime])


@pytest.mark.parametrize("value", [{1, 2}, (1,), object(), b"x"])
def test_value_that_is_not_json_is_a_typed_error(value: Any) -> None:
    with pytest.raises(DocumentError):
        compile_schema({"type": "object"}).is_valid(value)


def test_schema_that_is_not_json_is_a_typed_error() -> None:
    with pytest.raises(SchemaError):
        compile_schema({"const": {1, 2}})
    with pytest.raises(SchemaError):
        compile_schema({"const": float("nan")})
    with pytest.raises(SchemaError):
        compile_schema({"const": "\ud800"})


def test_schema_cannot_be_changed_after_it_is_compiled() -> None:
    raw: dict[str, Any] = {"enum": [["a"]]}
    schema = compile_schema(raw)

    raw["enum"][0].append("b")

    assert schema.is_valid(["a"])
