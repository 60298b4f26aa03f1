"""Without a schema the incremental checker takes exactly the texts that the strict reader takes."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.schema import compile_schema
from gearshift.core.schema.streaming import StreamChecker
from tests.support.json_cuts import agrees

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CHARS = list('{}[]":,\\/bfnrtu0123456789abcdefDE+-. \t\n\r\x00\x1f\x7fé😀') + ["\ud83d", "\ude00", "\ufeff"]
PARTS = [
    *CHARS,
    "\\u",
    "\\ud83d",
    "\\ude00",
    "\\uD8",
    "\\n",
    "true",
    "false",
    "null",
    "NaN",
    "1e5",
    "1.5",
    '"a"',
    '"a":',
]


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_every_json_text_is_taken(value: Any, ascii_only: bool, indent: int | None) -> None:
    assert agrees(None, json.dumps(value, ensure_ascii=ascii_only, indent=indent)) is None


@given(JSON, st.integers(0, 2**32), st.booleans())
def test_damaged_text_is_refused_as_by_the_strict_reader(value: Any, seed: int, ascii_only: bool) -> None:
    chance = random.Random(seed)
    text = json.dumps(value, ensure_ascii=ascii_only)
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(text))
        text = text[:at] + chance.choice(["", *PARTS]) + text[at + chance.randint(0, 2) :]
    agrees(None, text)


@given(st.lists(st.sampled_from(PARTS), max_size=9))
def test_any_characters_are_judged_as_by_the_strict_reader(parts: list[str]) -> None:
    agrees(None, "".join(parts))
    agrees(None, f'"{"".join(parts)}"')
    agrees(None, f"[{''.join(parts)}]")


@pytest.mark.parametrize("text", ["", " ", "[", '"a', '"\\u00', "tru", "-", "1e", '{"a"', '{"a": 1,', "[1"])
def test_text_that_ends_too_early_is_told_at_its_end(text: str) -> None:
    checker = StreamChecker(None)

    assert checker.feed(text) is None
    issue = checker.finish()

    assert issue is not None
    assert issue.keyword == "json"
    assert issue.offset == len(text)


def test_issue_stays_the_same_whatever_follows() -> None:
    checker = StreamChecker(compile_schema({"type": "object"}))
    issue = checker.feed("[")

    assert issue is not None
    assert checker.feed("{}") is issue
    assert checker.finish() is issue


def test_document_is_done_at_its_last_bracket() -> None:
    checker = StreamChecker(None)

    assert checker.feed('{"a": []') is None
    assert not checker.is_done
    assert checker.feed("}") is None
    assert checker.is_done
    assert checker.feed(" \n") is None
    assert checker.finish() is None
