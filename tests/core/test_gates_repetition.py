"""Loops are seen; lawful repetition is not called one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.gates.repetition import RepetitionGate, loop_at_end

_TABLE = "| month | sales | cost |\n|-------|-------|------|\n" + "".join(
    f"| {month:5} | {month * 37 % 100:5} | {month * 91 % 100:4} |\n" for month in range(1, 60)
)
_CODE = (
    """
def area(shape):
    if shape.kind == "circle":
        return math.pi * shape.radius ** 2
    if shape.kind == "square":
        return shape.side ** 2
    if shape.kind == "triangle":
        return shape.base * shape.height / 2
    raise ValueError(shape.kind)
"""
    * 2
)
_REFRAIN = (
    "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\nLife is but a dream.\n\n"
)
_POEM = "".join(
    f"The {animal} came to the river wide,\nAnd sang to the {animal} on the other side:\n{_REFRAIN}"
    for animal in ("fox", "hen", "ox", "owl")
)
_MATRIX = "zeros = [\n" + "    [0, 0, 0, 0, 0, 0, 0, 0],\n" * 8


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("Yes.", id="a word"),
        pytest.param(_TABLE, id="a table"),
        pytest.param("=" * 400, id="a rule"),
        pytest.param("|---|---|---|" * 30, id="the rule of a table"),
        pytest.param(_CODE, id="code"),
        pytest.param(_POEM, id="a poem with a refrain"),
        pytest.param(_MATRIX, id="a matrix of zeros"),
        pytest.param("x = [" + "0, " * 64, id="an array that is being written"),
        pytest.param("ha " * 20, id="a laugh"),
        pytest.param("no no no, never never never, not in a hundred years " * 3, id="insistence"),
        pytest.param("\n".join(f"{number}. Step {number}: press the button." for number in range(1, 40)), id="a list"),
    ],
)
def test_lawful_repetition_is_no_loop(text: str) -> None:
    assert loop_at_end(text) == 0
    assert RepetitionGate().judge_window(text) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Well, and so on" + " and so on" * 30, id="words"),
        pytest.param("a" * 200, id="a letter"),
        pytest.param("The cat sat on the mat. " * 10, id="a sentence"),
        pytest.param(
            "Intro.\n" + "I checked the log, and it says that the disk is full. Let me check again.\n" * 6,
            id="a paragraph",
        ),
        pytest.param("The answer is 42. " * 10 + "The ans", id="cut within the unit"),
        pytest.param("0" * 1000, id="digits without end"),
        pytest.param("x" + "é ü " * 60, id="beyond ASCII"),
    ],
)
def test_a_loop_is_seen(text: str) -> None:
    assert loop_at_end(text) >= 4
    verdict = RepetitionGate().judge_window(text)
    assert verdict is not None
    assert verdict.reason == "loop"


@given(st.text(alphabet="abcdefgh ", min_size=1, max_size=120), st.text(max_size=300), st.integers(0, 119))
def test_any_unit_repeated_often_enough_is_a_loop(unit: str, before: str, cut: int) -> None:
    text = before + unit * max(5, 120 // len(unit) + 2) + unit[: min(cut, len(unit) - 1)]
    expected = any(map(str.isalpha, unit))
    assert (loop_at_end(text) > 0) == expected or not expected


@given(st.text(max_size=2000))
def test_a_loop_is_really_at_the_end(text: str) -> None:
    repeats = loop_at_end(text)
    if repeats:
        tail = text[-1024:]
        assert any(
            all(tail[-1 - place] == tail[-1 - place - period] for place in range(period * (repeats - 1)))
            for period in range(1, 257)
            if period * repeats <= len(tail)
        )


@given(st.text(alphabet="ab ", max_size=3000))
def test_only_the_tail_is_looked_at(text: str) -> None:
    assert loop_at_end(text) == loop_at_end(text[-1024:])
