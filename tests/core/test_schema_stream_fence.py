"""What the filter lets through is what is left when the whole text is stripped of fences and prose."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.schema import compile_schema, strip_fence
from gearshift.core.schema.streaming import FenceFilter, StreamChecker

PARTS = [
    *('{"a": 1}', '{"a":\n "x y"}', "[1]", "{", "}", "[", "]", '"', "\\", ",", "a", "1", "Here: ", "[Note]"),
    *("```", "``", "````", "~~~", "json", "```json", "\n", "\n", "\n", " ", "\t", "\r", "\x0b", "\xa0", "\ufeff"),
]


def filtered(pieces: list[str], *, trusts_bare: bool = True) -> str | None:
    bare = FenceFilter(trusts_bare=trusts_bare)
    text = "".join(bare.feed(piece) for piece in pieces) + bare.finish()
    return None if bare.gave_up else text


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.integers(0, 2**32), st.booleans())
def test_what_comes_out_is_what_stripping_leaves(parts: list[str], seed: int, trusts_bare: bool) -> None:
    raw = "".join(parts)
    chance = random.Random(seed)
    pieces: list[str] = []
    while len("".join(pieces)) < len(raw):
        at = len("".join(pieces))
        pieces.append(raw[at : at + chance.randint(1, 5)])

    outcomes = {filtered(cut, trusts_bare=trusts_bare) for cut in ([raw], list(raw), pieces)}

    assert len(outcomes) == 1
    outcome = outcomes.pop()
    # White space after a document that never closes is no part of it, and has already gone out.
    assert outcome is None or outcome.rstrip() == strip_fence(raw).rstrip()


@pytest.mark.parametrize(
    ("raw", "early"),
    [
        pytest.param('{"a": 1}', '{"a": 1}', id="bare"),
        pytest.param('\ufeff \n{"a": 1}\nDone.', '{"a": 1}', id="prose after"),
        pytest.param('```json\n{"a": 1}\n```\n', '{"a": 1}', id="fence"),
        pytest.param('Sure {x}:\n```json\n{"a": 1}\n```\nDone.', '{"a": 1}', id="fence in prose with a bracket"),
        pytest.param('~~~\n{"a": "`"}\n~~~', '{"a": "`"}', id="tildes"),
        pytest.param('"see {x}"', '"see {x}"', id="string"),
        pytest.param('Sure: {"a": 1} Done.', "", id="prose without a fence is held"),
        pytest.param('```json {"a": 1}```', "", id="fence on one line is held"),
        pytest.param("42", "", id="bare number is held"),
    ],
)
def test_document_comes_out_as_soon_as_it_is_clear_where_it_begins(raw: str, early: str) -> None:
    bare = FenceFilter()
    text = "".join(bare.feed(char) for char in raw)

    assert text == early
    assert text + bare.finish() == strip_fence(raw)
    assert not bare.gave_up


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param('{"a": 1} or {"a": 2}', id="two objects"),
        pytest.param('{"a": 1}\n```json\n{"a": 2}\n```', id="fence after a bare object"),
        pytest.param("```\n1\n```\n```\n2\n```", id="two fences"),
        pytest.param("```\n1\n", id="fence that never closes"),
        pytest.param("```\n1\n~~~\n", id="fence that closes otherwise"),
        pytest.param("```" + "a" * 2_000, id="fence line without end"),
    ],
)
def test_unclear_text_makes_the_filter_give_up(raw: str) -> None:
    assert filtered([raw]) is None
    assert filtered(list(raw)) is None


def test_wrong_document_in_a_fence_is_stopped_before_the_fence_closes() -> None:
    schema = compile_schema({"properties": {"a": {"type": "string"}}})
    bare, checker = FenceFilter(), StreamChecker(schema)
    issues = [checker.feed(bare.feed(piece)) for piece in ("Here:\n``", "`json\n", '{"a": ', '12, "b": 3}')]

    assert issues[:3] == [None, None, None]
    assert issues[3] is not None
    assert (issues[3].pointer, issues[3].keyword, issues[3].offset) == ("/a", "type", 6)


def test_document_that_begins_bare_is_held_where_that_is_not_trusted() -> None:
    bare = FenceFilter(trusts_bare=False)

    assert bare.feed('{"a": 1} no: \n```json\n') == ""
    assert bare.feed('{"a": 2}') == '{"a": 2}'
    assert bare.feed("\n```") == ""
    assert bare.finish() == ""
    assert not bare.gave_up


def test_long_prose_before_a_fence_is_no_reason_to_give_up() -> None:
    raw = "word " * 2_000 + '\n```json\n{"a": 1}\n```'

    assert filtered(list(raw)) == '{"a": 1}'


def test_prose_in_brackets_is_not_taken_for_a_document() -> None:
    text = json.dumps({"a": 1})

    assert filtered([f"[Note] {{name}}\n```\n{text}\n```"]) == text
    assert filtered([f"{{name}} is\n```\n{text}\n```"]) == text


@pytest.mark.parametrize(
    "text",
    [
        "`" * 100_000,
        "```\n" + "``" * 100_000,
        "{" * 100_000,
        '{"' + "\\" * 100_001,
        " " * 100_000 + "x",
        "\n" * 100_000,
    ],
)
def test_hostile_text_is_filtered_in_linear_time(text: str) -> None:
    filtered([text[at : at + 3] for at in range(0, len(text), 3)])
