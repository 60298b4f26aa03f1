"""Strict JSON, canonical JSON, and the JSON in what a model wrote."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.schema import DocumentError, canonical_json, identity_key, parse_document, strip_fence

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "Expecting value", id="empty"),
        pytest.param('{"a": 1, "a": 2}', 'duplicate key "a"', id="duplicate key"),
        pytest.param('[{"b": {"a": 1, "\\u0061": 2}}]', 'duplicate key "a"', id="duplicate key by escape"),
        pytest.param("[NaN]", "NaN", id="not a number"),
        pytest.param("-Infinity", "-Infinity", id="infinity"),
        pytest.param("1e999", "out of range", id="beyond a double"),
        pytest.param("1" * 500, "more than 400", id="long number"),
        pytest.param("0." + "1" * 500, "more than 400", id="long fraction"),
        pytest.param('"\\ud800"', "surrogate", id="lone surrogate by escape"),
        pytest.param('"\ud800"', "surrogate", id="lone surrogate"),
        pytest.param('{"\\udc00": 1}', "surrogate", id="lone surrogate in a key"),
        pytest.param("{} {}", "Extra data", id="two documents"),
        pytest.param("{} Thanks!", "Extra data", id="text after"),
        pytest.param("[1,]", "Expecting value", id="trailing comma"),
        pytest.param("{'a': 1}", "Expecting property name", id="single quotes"),
        pytest.param("01", "Extra data", id="leading zero"),
        pytest.param('"a\nb"', "Invalid control character", id="raw line end"),
        pytest.param("\ufeff{}", "", id="byte order mark"),
        pytest.param("[" * 129 + "]" * 129, "deeper than 128", id="too deep"),
        pytest.param("[" * 100_000, "deeper than 128", id="far too deep"),
        pytest.param("١", "Expecting value", id="digits of another script"),
    ],
)
def test_text_that_is_not_strict_json_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DocumentError) as raised:
        parse_document(text)

    assert reason in str(raised.value)


def test_depth_up_to_the_limit_is_accepted() -> None:
    assert parse_document("[" * 128 + "]" * 128) is not None
    assert parse_document("[" + "[]," * 500 + "[]]") == [[]] * 501


def test_surrogate_pair_by_escape_is_one_character() -> None:
    assert parse_document('"\\ud83d\\ude00"') == "😀"


@given(JSON)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert parse_document(json.dumps(value)) == value


@given(JSON)
def test_canonical_text_is_stable(value: Any) -> None:
    text = canonical_json(value)

    assert canonical_json(parse_document(text)) == text
    assert identity_key(parse_document(text)) == identity_key(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ([1.0, -0.0, 1e20, 0.5], "[1,0,100000000000000000000,0.5]"),
        ({"é": "ü\n"}, '{"é":"ü\\n"}'),
    ],
)
def test_canonical_text_is_short_and_sorted(value: Any, text: str) -> None:
    assert canonical_json(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {"a": {1}}, b"x"])
def test_what_json_cannot_say_has_no_canonical_text(value: Any) -> None:
    with pytest.raises(DocumentError):
        canonical_json(value)


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (0, False), ("1", 1), ([], {}), ([1], [True]), (None, False), ({"a": 1}, {"a": "1"})]
)
def test_unequal_values_have_unequal_keys(one: Any, other: Any) -> None:
    assert identity_key(one) != identity_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), ([1.0], [1]), (10**30, 1e30), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
)
def test_equal_values_have_equal_keys(one: Any, other: Any) -> None:
    assert identity_key(one) == identity_key(other)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        pytest.param('{"a": 1}', '{"a": 1}', id="nothing around"),
        pytest.param('\n {"a": 1}\n', '{"a": 1}', id="white space"),
        pytest.param('\ufeff {"a": 1}', '{"a": 1}', id="byte order mark"),
        pytest.param('```json\n{"a": 1}\n```', '{"a": 1}', id="fence"),
        pytest.param("```\n[1]\n```\n", "[1]", id="fence without a language"),
        pytest.param('~~~json\n{"a": 1}\n~~~', '{"a": 1}', id="tildes"),
        pytest.param('```json {"a": 1} ```', '{"a": 1}', id="fence on one line"),
        pytest.param('Here it is:\n```json\n{"a": 1}\n```\nEnjoy!', '{"a": 1}', id="fence in prose"),
        pytest.param('Here it is: {"a": "}"} Enjoy!', '{"a": "}"}', id="prose"),
        pytest.param('{"a": "```"}', '{"a": "```"}', id="backticks inside"),
        pytest.param('{"a": "text\\n```json\\n```"}', '{"a": "text\\n```json\\n```"}', id="fence in a string"),
        pytest.param('"see {x}"', '"see {x}"', id="a string with braces"),
        pytest.param("42", "42", id="number"),
        pytest.param('{"a": 1} or {"a": 2}', '{"a": 1} or {"a": 2}', id="two objects are left alone"),
        pytest.param("```\n1\n```\n```\n2\n```", "```\n1\n```\n```\n2\n```", id="two fences are left alone"),
        pytest.param('{"a": [1', '{"a": [1', id="cut off"),
        pytest.param("", "", id="empty"),
    ],
)
def test_fence_and_prose_are_stripped_where_it_is_clear_what_is_meant(text: str, bare: str) -> None:
    assert strip_fence(text) == bare


@given(JSON.filter(lambda value: isinstance(value, dict | list)), st.sampled_from(["", "json", "JSON"]))
def test_fenced_json_is_found_unchanged(value: Any, language: str) -> None:
    text = json.dumps(value, indent=1)

    assert strip_fence(f"Sure:\n```{language}\n{text}\n```\nDone.") == text
    assert strip_fence(text) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("```" + " " * 200_000 + "x", id="spaces after a fence"),
        pytest.param("`" * 200_000 + "x", id="backticks"),
        pytest.param("{" + '\\" ' * 100_000, id="escaped quotes outside of a string"),
        pytest.param("{" * 200_000, id="open braces"),
        pytest.param('{"' + "\\" * 200_001, id="backslashes in an open string"),
        pytest.param("```\n" * 50_000, id="many fences"),
    ],
)
def test_hostile_text_is_stripped_in_linear_time(text: str) -> None:
    assert strip_fence(text) == text.strip()


@given(st.text(max_size=200))
def test_any_text_can_be_stripped(text: str) -> None:
    assert strip_fence(text) in text
