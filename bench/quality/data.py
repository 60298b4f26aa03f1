"""The recorded answers, as rows that all measurements share.

A row's group is the text of its question without its options, letters and digits alone, so that cross-validation never
has one question on both sides: nearly half of MMLU-Pro's questions are MMLU's too, with other options.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.quality.rows import SHAPES, rows

FOLDS = 5
LETTERS = "ABCDEFGHIJ"
FILES = tuple(SHAPES)
EXAM, EXAM_ANSWERS, MMLU, GSM8K, SOLUTIONS, ARENA, MANY = FILES
PRICES = {  # USD per million tokens, in and out; quality protocol, list prices of late 2024
    "phi-3-mini": (0.10, 0.10),
    "llama-3.1-8b": (0.22, 0.22),
    "llama-3.1-70b": (0.88, 0.88),
    "gemini-1.5-flash": (0.075, 0.30),
    "gemini-1.5-pro": (1.25, 5.00),
}
WEAK_USD, STRONG_USD = 0.24, 24.7  # RouteLLM, section 5.4


class Answer(NamedTuple):
    """One recorded answer."""

    source: str
    model: str
    group: str
    prompt: str
    text: str
    right: bool


class Question(NamedTuple):
    """One question and the share of models that are right."""

    source: str
    group: str
    prompt: str
    share: float


class Pair(NamedTuple):
    """One question to a weak and a strong model; `answer` is the weak one's text, empty when not recorded."""

    group: str
    prompt: str
    answer: str
    weak: bool
    strong: bool
    weak_usd: float
    strong_usd: float


class Asked(NamedTuple):
    """One question to many models, with the kind of question that the recording names."""

    group: str
    prompt: str
    kind: str
    scores: tuple[float, ...]


def digest(data: Path) -> str:
    """Give what tells one set of data from another."""
    found = hashlib.sha256()
    for name in FILES:
        found.update((data / name).read_bytes() if (data / name).exists() else b"-")
    return found.hexdigest()


_FIRST_OPTION = re.compile(r"\n\(?A[.)] ")
_SIGNS = re.compile(r"[\W_]+")


def group_of(question: str) -> str:
    """Give what one question has in common wherever it is asked."""
    return _SIGNS.sub(" ", _FIRST_OPTION.split(question, maxsplit=1)[0].lower()).strip()


def fold_of(group: str) -> int:
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLDS


def lettered(row: dict[str, Any]) -> str:
    options = [f"{letter}. {each}" for letter, each in zip(LETTERS, row["options"], strict=False)]
    return "\n".join([row["question"], *options])


def exam_answers(data: Path) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Give each recorded answer of the exam with its question's row and its model; answers that nobody judged are none."""
    asked = {row["question_id"]: row for row in rows(data, EXAM)}
    for row in rows(data, EXAM_ANSWERS):
        question = asked.get(row["question_id"])
        if question is not None:
            for model, text in row.items():
                if isinstance(text, str) and question["correct"].get(model) is not None:
                    yield question, model, text


def answers(data: Path) -> Iterator[Answer]:
    for question, model, text in exam_answers(data):
        group, right = group_of(question["question"]), bool(question["correct"][model])
        yield Answer("mmlu_pro", model, group, lettered(question), text, right)
    for row in rows(data, GSM8K):
        group, prompt = group_of(row["prompt"]), row["prompt"]
        yield Answer("gsm8k", "mixtral-8x7b", group, prompt, row["weak_response"], bool(row["weak_correct"]))
        yield Answer("gsm8k", "gpt-4", group, prompt, row["strong_response"], bool(row["strong_correct"]))
    for row in rows(data, SOLUTIONS):
        group, prompt = group_of(row["question"]), row["question"]
        for model, each in row["models"].items():
            yield Answer("gsm8k", model, group, prompt, each["response"], bool(each["correct"]))
    for row in rows(data, ARENA):
        for model, each in row["models"].items():
            if each["score"] in (0, 1) and each["response"] is not None:
                yield Answer(
                    "arena", model, group_of(row["prompt"]), row["prompt"], each["response"], bool(each["score"])
                )


def questions(data: Path) -> Iterator[Question]:
    for row in rows(data, EXAM):
        right = [each for each in row["correct"].values() if each is not None]
        if right:
            yield Question("mmlu_pro", group_of(row["question"]), lettered(row), sum(right) / len(right))
    for row in rows(data, MMLU):
        yield Question(
            "mmlu", group_of(row["prompt"]), row["prompt"], (row["weak_correct"] + row["strong_correct"]) / 2
        )
    small = {row["question"]: [each["correct"] for each in row["models"].values()] for row in rows(data, SOLUTIONS)}
    for row in rows(data, GSM8K):
        right = [*small.get(row["prompt"], []), row["weak_correct"], row["strong_correct"]]
        yield Question("gsm8k", group_of(row["prompt"]), row["prompt"], sum(right) / len(right))


def gsm8k_pairs(data: Path) -> list[Pair]:
    return [
        Pair(
            group_of(row["prompt"]),
            row["prompt"],
            row["weak_response"],
            bool(row["weak_correct"]),
            bool(row["strong_correct"]),
            WEAK_USD,
            STRONG_USD,
        )
        for row in rows(data, GSM8K)
    ]


def mmlu_pro_pairs(data: Path, weak: str, strong: str) -> list[Pair]:
    """Give pairs with recorded answers, in the questions' order; tokens are characters / 4, without the five shots."""
    texts = {row["question_id"]: row.get(weak) for row in rows(data, EXAM_ANSWERS)}
    found: list[Pair] = []
    for row in rows(data, EXAM):
        text, correct, sizes = texts.get(row["question_id"]), row["correct"], row.get("out_chars", {})
        if not isinstance(text, str) or any(
            each.get(model) is None for each in (correct, sizes) for model in (weak, strong)
        ):
            continue
        prompt = lettered(row)
        costs = [
            (len(prompt) * PRICES[model][0] + sizes[model] * PRICES[model][1]) / 4 / 1e6 for model in (weak, strong)
        ]
        found.append(Pair(group_of(row["question"]), prompt, text, bool(correct[weak]), bool(correct[strong]), *costs))
    return found


def mmlu_asked(data: Path) -> list[Asked]:
    """Give what Mixtral and GPT-4 made of MMLU, with its subjects."""
    return [
        Asked(
            group_of(row["prompt"]),
            row["prompt"],
            row["subject"],
            (float(row["weak_correct"]), float(row["strong_correct"])),
        )
        for row in rows(data, MMLU)
    ]


def nine_asked(data: Path, models: Sequence[str]) -> list[Asked]:
    """Give what the nine models made of assorted benchmarks, where all of them were asked."""
    return [
        Asked(
            group_of(row["query"]), row["query"], row["task_name"], tuple(float(row["scores"][each]) for each in models)
        )
        for row in rows(data, MANY)
        if row["scores"].keys() >= set(models)
    ]


class _Price(msgspec.Struct, frozen=True):
    usd_per_mtok_in: float


def nine_prices(data: Path) -> dict[str, float]:
    """Give the price of each of the nine models, in USD per million tokens, in and out alike; none where the file is not whole."""
    path = data / "llmrouter_9models/prices.json"
    try:
        prices = msgspec.convert(json.loads(path.read_text("utf-8")), dict[str, _Price])
    except (OSError, ValueError, msgspec.ValidationError):
        return {}
    return {name: each.usd_per_mtok_in for name, each in sorted(prices.items())}
