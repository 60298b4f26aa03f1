"""Hostile schemas and documents: checking ends soon, or the checker says nothing."""

import json
import time
from typing import Any

import pytest

from gearshift.core.schema import SchemaLimits, compile_schema
from gearshift.core.schema.streaming import StreamChecker


def checked(schema: Any, text: str, size: int = 4, work: int | None = None) -> StreamChecker:
    checker = StreamChecker(compile_schema(schema), work=work)
    for at in range(0, len(text), size):
        checker.feed(text[at : at + size])
    checker.finish()
    return checker


def doubling(keyword: str, leaf: Any, steps: int = 30) -> dict[str, Any]:
    """Return a schema that applies leaf 2 ** steps times to one value."""
    defs: dict[str, Any] = {
        f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(steps)
    }
    return {"$ref": "#/$defs/d0", "$defs": defs | {f"d{steps}": leaf}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf"])
@pytest.mark.parametrize(
    ("leaf", "good", "bad"),
    [
        ({"type": "string", "maxLength": 3}, '"abc"', '"abcd"'),
        ({"properties": {"a": {"const": 1}}}, '{"a": 1}', '{"a": 2}'),
    ],
)
def test_doubling_references_cost_no_more_than_their_number(keyword: str, leaf: Any, good: str, bad: str) -> None:
    for text, is_good in ((good, True), (bad, False)):
        checker = checked(doubling(keyword, leaf), text, size=1, work=2_000)
        assert not checker.gave_up
        assert (checker.finish() is None) is is_good


def test_recursive_schema_costs_no_more_than_document_times_schema() -> None:
    member = {"properties": {"a": {"$ref": "#"}}}
    schema = {"type": "object", "allOf": [member, member, {"additionalProperties": {"$ref": "#"}}]}
    text = '{"a":' * 100 + "{}" + "}" * 100

    checker = checked(schema, text, work=5_000)

    assert not checker.gave_up
    assert checker.finish() is None


def test_unevaluated_properties_below_each_other_cost_no_more_than_document_times_schema() -> None:
    member = {"properties": {"a": {"$ref": "#"}}}
    schema = {"type": "object", "anyOf": [member, member], "unevaluatedProperties": False}

    checker = checked(schema, '{"a":' * 100 + "{}" + "}" * 100, work=5_000)

    assert not checker.gave_up
    assert checker.finish() is None


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        pytest.param(
            {"items": {"anyOf": [{"const": i, "minimum": i} for i in range(1000)]}},
            json.dumps([999] * 2000),
            id="many constants",
        ),
        pytest.param(
            {"items": {"anyOf": [{"const": "a" * 50 + str(i)} for i in range(3000)]}},
            json.dumps(["a" * 50 + "2999"] * 2000),
            id="many texts that begin alike",
        ),
        pytest.param(
            {"items": {"anyOf": [{"properties": {"x": {"type": "integer"}, f"y{i}": True}} for i in range(3000)]}},
            json.dumps([{"x": 1}] * 500),
            id="many branches that live",
        ),
        pytest.param({"pattern": "(?:a|b)*a(?:a|b){900}c"}, json.dumps("ab" * 400_000), id="costly pattern"),
        pytest.param(
            {"items": {"uniqueItems": True, "items": {"uniqueItems": True, "items": {"uniqueItems": True}}}},
            json.dumps([[[["x" * 5_000] * 1] * 1] * 1] * 10_000),
            id="large items that must be unique",
        ),
    ],
)
def test_too_much_work_makes_the_checker_give_up(schema: Any, text: str) -> None:
    started = time.thread_time()

    checker = checked(schema, text, size=64, work=200_000)

    assert checker.gave_up
    assert checker.feed("x") is None
    assert checker.finish() is None
    assert time.thread_time() - started < 10


def test_giving_up_does_not_depend_on_the_cut() -> None:
    schema = {"items": {"anyOf": [{"maxLength": 100 + i, "minLength": 1} for i in range(40)]}}
    text = json.dumps(["abcdefgh"] * 50)

    def given_up(size: int, work: int) -> bool:
        return checked(schema, text, size, work).gave_up

    for work in range(5_000, 20_000, 1_000):
        assert len({given_up(size, work) for size in (1, 4, 7, len(text))}) == 1


def test_work_limit_of_the_schema_counts() -> None:
    schema = compile_schema({"items": {"type": "object"}}, limits=SchemaLimits(work=50))
    checker = StreamChecker(schema)

    assert checker.feed(json.dumps([{"a": 1}] * 100)) is None
    assert checker.gave_up


def test_long_flat_document_is_linear() -> None:
    # One text of 200,000 characters against one constant as long, by single characters.
    long = "ab" * 100_000
    checker = StreamChecker(compile_schema({"properties": {"a": {"const": long}}, "additionalProperties": False}))
    started = time.thread_time()

    for char in f'{{"a": "{long}"}}':
        assert checker.feed(char) is None

    assert checker.finish() is None
    assert time.thread_time() - started < 5


def test_long_number_key_and_white_space_are_linear() -> None:
    text = '{"' + "k" * 100_000 + '":' + " " * 100_000 + "1" * 400 + "}"
    started = time.thread_time()

    assert checked({"properties": {"k": True}}, text, size=1).finish() is None
    assert time.thread_time() - started < 5
