"""On generated schemas and documents the incremental checker says what the full validator says, however the text is cut."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gearshift.core.schema import Schema, SchemaError, compile_schema
from gearshift.core.schema.streaming import StreamIssue
from tests.core.test_schema_differential import DOCUMENTS, DRAFT_07, DRAFT_2020_12, documents_of
from tests.support.json_cuts import agrees, is_valid
from tests.support.shaped_schemas import NAMES, shaped, written


def text_of(value: Any, indent: int | None, ascii_only: bool) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only)


TEXTS = st.builds(text_of, DOCUMENTS, st.sampled_from([None, None, 1]), st.booleans())
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
