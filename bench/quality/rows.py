"""The rows of recorded data, checked before anything is measured on them.

Rules: a column that nobody reads is ignored. A row that lacks a column, or has another kind of value there, is left out; a file that is
missing, cannot be read or keeps no row counts as none. What was left out is told by file and by the first row's fault, never raised.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

LEAST_OWN: Final = 200
"""Rows that something was fitted to are judged by folds where there are so many."""

Judged = float | bool
"""How right an answer is: 0 to 1, or whether."""


class NoRowsError(ValueError):
    """Raised when there is nothing to measure on; says where it should be."""

    def __init__(self, where: str) -> None:
        super().__init__(f"no whole rows in {where}")


class TooFewRowsError(ValueError):
    """Raised when rows that something was fitted to cannot be judged by folds; says why."""

    def __init__(self, kind: str, count: int) -> None:
        super().__init__(f"something was fitted to these {count:,} {kind}: too few to judge them by folds")


class ExamQuestion(Struct, frozen=True):
    """A question with options, and which models were right."""

    question_id: int | str
    question: str
    options: list[str]
    correct: dict[str, Judged | None]
    out_chars: dict[str, float | None] = {}


class ExamAnswers(Struct, frozen=True):
    """The answers to one question; every other column is a model's text."""

    question_id: int | str


class TwoModels(Struct, frozen=True):
    """A prompt to a weak and a strong model."""

    prompt: str
    subject: str
    weak_correct: Judged
    strong_correct: Judged


class TwoAnswers(Struct, frozen=True):
    """The same, with both answers."""

    prompt: str
    weak_correct: Judged
    strong_correct: Judged
    weak_response: str
    strong_response: str


class Solved(Struct, frozen=True):
    """One model's solution."""

    correct: Judged
    response: str


class Solutions(Struct, frozen=True):
    """A problem with models' solutions."""

    question: str
    models: dict[str, Solved]


class Scored(Struct, frozen=True):
    """One model's answer with its score."""

    response: str | None
    score: Judged | None


class ArenaAnswers(Struct, frozen=True):
    """A prompt with models' answers."""

    prompt: str
    models: dict[str, Scored]


class ManyScores(Struct, frozen=True):
    """A query with many models' scores."""

    query: str
    task_name: str
    scores: dict[str, float]


class JudgedTalk(Struct, frozen=True):
    """A conversation of which a judge scored an answer."""

    conversation: str


class FunctionCall(Struct, frozen=True):
    """A request, and the calls of a function that are right: per argument the values that count."""

    messages: list[dict[str, Any]]
    accepted: list[dict[str, dict[str, Any]]]


SHAPES: Final[Mapping[str, type[Struct]]] = {
    "mmlu_pro_cascade/questions.jsonl.gz": ExamQuestion,
    "mmlu_pro_cascade/responses.jsonl.gz": ExamAnswers,
    "routellm/mmlu.jsonl.gz": TwoModels,
    "routellm/gsm8k.jsonl.gz": TwoAnswers,
    "gsm8k_6b_175b/solutions.jsonl.gz": Solutions,
    "routerarena_cached/results.jsonl.gz": ArenaAnswers,
    "llmrouter_9models/queries.jsonl.gz": ManyScores,
}
"""The files, and what every row of one must have."""

JUDGED_TALK: Final = "routellm/mt_bench_judgements.jsonl.gz"
CALLS: Final = "json_schema/bfcl_function_calls.jsonl.gz"
_OTHERS: Final[Mapping[str, type[Struct]]] = {JUDGED_TALK: JudgedTalk, CALLS: FunctionCall}
"""Those that only the gates are measured on."""


def rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Give the rows of a file that are whole."""
    return checked(data, name)[0]


def checked(data: Path, name: str) -> tuple[list[dict[str, Any]], str]:
    """Give the rows of a file that are whole, and what to tell of the file; empty when there is nothing."""
    path, shape = data / name, SHAPES.get(name) or _OTHERS[name]
    if not path.exists():
        return [], "missing"
    whole: list[dict[str, Any]] = []
    left_out, first = 0, ""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    msgspec.convert(row, shape)
                    whole.append(row)
                except (ValueError, msgspec.ValidationError) as error:
                    left_out += 1
                    first = first or f"line {number}: {error}"
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        return whole, f"cannot be read beyond {len(whole):,} rows: {error}"
    return (
        whole,
        f"{left_out:,} of {left_out + len(whole):,} rows are left out, the first for {first}" if left_out else "",
    )


def faults(data: Path) -> list[str]:
    """Give what is missing or left out, each with its file's name."""
    told = {name: checked(data, name)[1] for name in SHAPES}
    return [f"{name}: {fault}" for name, fault in told.items() if fault]
