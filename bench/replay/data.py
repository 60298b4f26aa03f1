"""The calls of the page: four tasks, each with the answers of a cheap and a dear model.

Rules: what was recorded is taken as it is (`reason`, `math`). Where only published averages exist (`classify`, `extract`), which
answer is right is drawn from them, each model for itself, and the page says so. Texts and truths depend on the seed alone.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import random
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from bench.common.process import ROOT
from gearshift.core.schema import SchemaError, SchemaLimitError, compile_schema
from gearshift.server.replay.trace import Call, Recorded

COPY: Final = ROOT / "bench/data/replay"
TASKS: Final = ("classify", "extract", "reason", "math")
EASY, HARD = TASKS[:2], TASKS[2:]

PUBLISHED: Final = {"light": ("gemini-1.5-flash", 0.075), "dear": ("claude-3-5-sonnet-20240620", 3.0)}
"""Of `classify`: the model in FrugalGPT's table, and USD for a million input tokens, from which its tokens follow."""
SETS: Final = {
    "AGNEWS": ("World", "Sports", "Business", "Science"),
    "HEADLINES": ("up", "down", "neutral", "none"),
    "OVERRULING": ("yes", "no"),
}
SIMPLE: Final = {"light": 0.960, "dear": 0.96}
"""Of `extract`, one function offered: claude-3-haiku, and the best of the strong models (BFCL, August 2024)."""
MULTIPLE: Final = {"light": 0.925, "dear": 0.95}
"""The same, several functions offered."""
MEDIAN_S: Final = {"gemini-1.5-flash": 0.70, "claude-3-haiku": 1.05, "gpt-4-1106": 1.39, "claude-3.5-sonnet": 3.00}
"""Median seconds of a call (BFCL, August 2024: short answers)."""
SPREAD: Final = 0.35
"""Of the logarithm of a latency: an assumption."""

FLASH, HAIKU, SONNET = "google/flash", "anthropic/haiku", "anthropic/sonnet"
PRO, MIXTRAL, GPT4 = "google/pro", "mistral/mixtral", "openai/gpt4"


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read packed JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def is_for_tuning(key: object) -> bool:
    """Tell whether a recorded question is one that thresholds are found on; the others are replayed."""
    return blake2b(str(key).encode(), digest_size=1).digest()[0] < 128


def part(data: Path, name: str) -> Path:
    """Give a file of the data, or of the copy where the data lacks it: what has no part that was kept back."""
    return data / name if (data / name).exists() else COPY / name


def classify(data: Path, count: int, seed: int) -> list[Call]:
    """Give classifications, right as often as published."""
    chance = random.Random(f"classify {seed}")
    table: dict[tuple[str, str], tuple[float, float]] = {}
    with part(data, "frugalgpt_summary/curve_points.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            table[row["dataset"], row["method"]] = float(row["test_acc"]), float(row["test_cost_usd"])
    calls: list[Call] = []
    each = math.ceil(count / len(SETS))
    luck = {
        (name, role): _exactly(chance, table[name, model][0], each)
        for name in SETS
        for role, (model, _) in PUBLISHED.items()
    }
    for number in range(count):
        name = list(SETS)[number % len(SETS)]
        labels = SETS[name]
        truth = chance.choice(labels)
        answers: dict[str, Recorded] = {}
        for key, role, speed in ((FLASH, "light", "gemini-1.5-flash"), (SONNET, "dear", "claude-3.5-sonnet")):
            model, price = PUBLISHED[role]
            _, cost = table[name, model]
            right = luck[name, role].pop()
            said = truth if right else chance.choice([label for label in labels if label != truth])
            tokens = round(
                cost / price * 1e6 - 2 * (4 if role == "light" else 5)
            )  # two of output, four or five times as dear
            whole = _latency_ms(chance, MEDIAN_S[speed])
            answers[key] = Recorded(
                text=said,
                correct=right,
                input_tokens=tokens,
                output_tokens=2,
                first_token_ms=whole * FIRST,
                latency_ms=whole,
            )
        calls.append(
            Call(at=0.0, task="classify", type="classify", prompt=f"{name} {number}: which label fits?", labels=labels, expected=truth, answers=answers)
        )  # fmt: skip
    return calls


def extract(data: Path, count: int, seed: int) -> list[Call]:
    """Give function calls of BFCL as documents, right as often as published; a wrong one keeps to its schema."""
    chance = random.Random(f"extract {seed}")
    calls: list[Call] = []
    rows = lines(part(data, "json_schema/bfcl_function_calls.jsonl.gz"))
    chosen = [(row, made) for row in rows if (made := _document_of(row)) is not None and _spoilt(made[1]) != made[1]][
        :count
    ]
    luck: dict[tuple[bool, str], list[bool]] = {}
    for is_multiple, shares in ((False, SIMPLE), (True, MULTIPLE)):
        rows_of_kind = sum((row["category"] == "multiple") is is_multiple for row, _ in chosen)
        for role, share in shares.items():
            luck[is_multiple, role] = _exactly(chance, share, rows_of_kind)
    for row, (schema, document) in chosen:
        answers: dict[str, Recorded] = {}
        for key, role, speed in ((HAIKU, "light", "claude-3-haiku"), (SONNET, "dear", "claude-3.5-sonnet")):
            right = luck[row["category"] == "multiple", role].pop()
            text = json.dumps(document if right else _spoilt(document))
            whole = _latency_ms(chance, MEDIAN_S[speed])
            answers[key] = Recorded(
                text=text,
                correct=right,
                output_tokens=max(2, len(text) // 4),
                first_token_ms=whole * FIRST,
                latency_ms=whole,
            )
        prompt = f"{row['messages'][-1]['content']}\n\nFunctions: {json.dumps(row['functions'])}"
        calls.append(
            Call(
                at=0.0, task="extract", type="extract", prompt=prompt, schema=schema, expected=document, answers=answers
            )
        )
    return calls


def _exactly(chance: random.Random, share: float, count: int) -> list[bool]:
    """Give so many truths in drawn order, of which the share is right: drawn one by one, chance would move the share."""
    rights = round(share * count)
    found = [True] * rights + [False] * (count - rights)
    chance.shuffle(found)
    return found


def _document_of(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Give the schema of the right function's arguments and the right document; None where they do not fit."""
    (name, accepted), *_ = row["accepted"][0].items()
    function = next((each for each in row["functions"] if each["name"] == name), None)
    if function is None:
        return None
    schema = _schema(function["parameters"])
    document = {key: values[0] for key, values in accepted.items() if values and values[0] != ""}
    try:
        fits = compile_schema(schema).is_valid(document)
    except (SchemaError, SchemaLimitError):
        return None
    return (schema, document) if fits else None


_WORDS = {"dict": "object", "float": "number", "tuple": "array", "any": None}


def _schema(value: Any) -> Any:
    """Give BFCL's own words for types as JSON Schema's."""
    if isinstance(value, list):
        return [_schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _schema(each) for key, each in value.items() if key not in ("default", "optional", "format")}
    kind = made.get("type")
    if isinstance(kind, str) and kind in _WORDS:
        if _WORDS[kind] is None:
            del made["type"]
        else:
            made["type"] = _WORDS[kind]
    return made


def _spoilt(document: dict[str, Any]) -> dict[str, Any]:
    """Give the document with another value that fits as well."""
    for key, value in document.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            return {**document, key: value + 1}
    for key, value in document.items():
        if isinstance(value, str):
            return {**document, key: f"{value} 2"}
    return document


def reason(data: Path, seed: int, *, tuning: bool | None) -> list[Call]:
    """Give MMLU-Pro's questions with the recorded answers of gemini-1.5-flash and -pro.

    Args:
        tuning: those that thresholds are found on, or the others; None is all.
    """
    chance = random.Random(f"reason {seed}")
    answered = {each["question_id"]: each for each in lines(part(data, "mmlu_pro_cascade/responses.jsonl.gz"))}
    calls: list[Call] = []
    for row in lines(part(data, "mmlu_pro_cascade/questions.jsonl.gz")):
        texts = answered.get(row["question_id"])
        if texts is None or tuning not in (None, is_for_tuning(row["question_id"])):
            continue
        options = "\n".join(f"{chr(65 + number)}. {option}" for number, option in enumerate(row["options"]))
        prompt = f"{row['question'].strip()}\n{options}\nThink step by step, then say: The answer is (X)."
        answers = {
            key: _worked(chance, texts[model], row["correct"][model], len(prompt), speed)
            for key, model, speed in (
                (FLASH, "gemini-1.5-flash", "gemini-1.5-flash"),
                (PRO, "gemini-1.5-pro", "gpt-4-1106"),
            )
        }
        calls.append(Call(at=0.0, task="reason", type="reason", prompt=prompt, answers=answers))
    return calls


def gsm8k(data: Path, seed: int, *, tuning: bool | None) -> list[Call]:
    """Give GSM8K's problems with the recorded answers of Mixtral-8x7B and gpt-4-1106; `tuning` as for `reason`."""
    chance = random.Random(f"math {seed}")
    calls: list[Call] = []
    for row in lines(part(data, "routellm/gsm8k.jsonl.gz")):
        if tuning not in (None, is_for_tuning(row["id"])):
            continue
        answers = {
            key: _worked(chance, row[f"{role}_response"], row[f"{role}_correct"], len(row["prompt"]), speed)
            for key, role, speed in ((MIXTRAL, "weak", "gemini-1.5-flash"), (GPT4, "strong", "gpt-4-1106"))
        }
        calls.append(Call(at=0.0, task="math", type="reason", prompt=row["prompt"], answers=answers))
    return calls


SHORT: Final = 40
"""Tokens of an answer that takes its model's median time."""
FIRST: Final = 0.3
"""Share of that time until the first token: an assumption."""


def _worked(chance: random.Random, text: str, correct: int, characters: int, speed: str) -> Recorded:
    """Give a long answer: its time grows with its length."""
    tokens = max(2, math.ceil(len(text) / 4))
    median = MEDIAN_S[speed]
    seconds = (FIRST * median + (1 - FIRST) * median / SHORT * tokens) * chance.lognormvariate(0, SPREAD)
    return Recorded(
        text=text,
        correct=bool(correct),
        input_tokens=characters // 4 + 8,
        output_tokens=tokens,
        first_token_ms=min(seconds, FIRST * median) * 1000,
        latency_ms=seconds * 1000,
    )


def _latency_ms(chance: random.Random, median_s: float) -> float:
    return median_s * chance.lognormvariate(0, SPREAD) * 1000
