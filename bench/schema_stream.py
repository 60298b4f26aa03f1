"""Time the incremental schema check, per piece as a stream brings it.

Run: python bench/schema_stream.py. Each line is one schema and document: microseconds of CPU for each piece of 4
characters, of 16 and of 1, and of the whole text at once beside reading and checking it with the full validator. The
best of some rounds, on one core; then what compiling takes, and the rows of SchemaStore together.
"""

import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gearshift.core.schema import Schema, SchemaError, compile_schema, parse_document
from gearshift.core.schema.streaming import FenceFilter, StreamChecker

DATA = Path(__file__).parent / "data" / "json_schema"
ROUNDS = 15
WORDS = "The quick brown fox jumps over the lazy dog. "
ROW = {
    "id": {"type": "integer"},
    "name": {"type": "string", "maxLength": 100},
    "price": {"type": "number", "minimum": 0},
    "status": {"enum": ["open", "closed"]},
}
ROWS = [{"id": i, "name": f"item {i}", "price": i * 1.5, "status": "open"} for i in range(100)]
TREE: dict[str, Any] = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"$ref": "#"}},
        {"type": "object", "patternProperties": {"^.": {"$ref": "#"}}},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}},
        {"type": "string", "maxLength": 5},
        {"type": "integer"},
    ],
    "allOf": [
        {"not": {"type": "object", "required": ["zz"]}},
        {"if": {"type": "object"}, "then": {"additionalProperties": {"$ref": "#"}}},
    ],
}


def nested(depth: int) -> Any:
    return {"a": [1, "b"], "b": {"c": nested(depth - 1)}} if depth else 1


def branch(number: int) -> dict[str, Any]:
    """Return one of several forms that all fit the rows to their end."""
    own = {f"only{number}": {"type": "string"}, "name": {"type": "string", "maxLength": 100 + number}}
    return {"type": "object", "properties": ROW | own, "required": ["id", "name"]}


CASES: dict[str, tuple[Any, Any]] = {
    "one long text": (
        {"type": "object", "properties": {"text": {"type": "string"}}, "additionalProperties": False},
        {"text": WORDS * 100},
    ),
    "flat object": (
        {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "summary": {"type": "string", "maxLength": 4000},
                "sentiment": {"enum": ["positive", "negative", "neutral"]},
                "score": {"type": "number", "minimum": 0, "maximum": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
                "count": {"type": "integer"},
                "ok": {"type": "boolean"},
            },
            "required": ["title", "summary"],
            "additionalProperties": False,
        },
        {
            "title": "A quarterly report on something",
            "summary": WORDS * 40,
            "sentiment": "negative",
            "score": 0.25,
            "tags": ["alpha", "beta", "gamma delta"] * 8,
            "count": 12,
            "ok": True,
        },
    ),
    "100 short rows": (
        {
            "type": "array",
            "items": {"type": "object", "properties": ROW, "required": ["id"], "additionalProperties": False},
        },
        ROWS,
    ),
    "8 live branches": ({"type": "array", "items": {"anyOf": [branch(number) for number in range(8)]}}, ROWS),
    "hostile recursive": (TREE, [nested(12) for _ in range(10)]),
}


def best(run: Callable[[], object]) -> float:
    """Return the least CPU time of some runs, in microseconds."""
    least = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        run()
        least = min(least, time.thread_time() - started)
    return least * 1e6


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def stream(schema: Schema, pieces: list[str]) -> None:
    checker = StreamChecker(schema)
    feed = checker.feed
    for piece in pieces:
        feed(piece)
    if checker.finish() is not None or checker.gave_up:
        raise AssertionError("the document is valid")


def filtered(pieces: list[str]) -> None:
    bare = FenceFilter()
    for piece in pieces:
        bare.feed(piece)


def measure(name: str, schema: Schema, text: str) -> None:
    figures: list[str] = []
    for size in (4, 16, 1):
        pieces = cut(text, size)
        figures.append(f"{best(lambda pieces=pieces: stream(schema, pieces)) / len(pieces):6.2f}")
    whole = best(lambda: stream(schema, [text]))
    full = best(lambda: schema.is_valid(parse_document(text)))
    pieces = cut(f"```json\n{text}\n```", 4)
    fence = best(lambda: filtered(pieces)) / len(pieces)
    print(f"{name:18} {len(text):6} {' '.join(figures)} {whole:8.0f} {full:8.0f} {fence:6.2f}")


def compiling(schema: Any, text: str) -> tuple[float, float]:
    """Return what compiling takes, and what the first document pays above the next for its plans."""
    compiled = [compile_schema(schema) for _ in range(ROUNDS)]
    fresh = iter(compiled)
    first = best(lambda: stream(next(fresh), [text]))
    again = best(lambda: stream(compiled[0], [text]))
    return best(lambda: compile_schema(schema)), max(0.0, first - again)


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def schemastore() -> None:
    raw = {row["schema_name"]: row["schema"] for row in rows("schemastore_schemas")}
    schemas: dict[str, Schema | None] = {}
    spent, pieces_read, files = 0.0, 0, 0
    for row in rows("schemastore_instances"):
        name = row["schema_name"]
        if row["external_refs"] or not row["valid"]:
            continue
        if name not in schemas:
            try:
                schemas[name] = compile_schema(raw[name])
            except SchemaError:
                schemas[name] = None
        schema = schemas[name]
        if schema is None or not schema.is_valid(row["data"]):
            continue
        pieces = cut(json.dumps(row["data"], ensure_ascii=False, indent=2), 4)
        stream(schema, pieces)
        started = time.thread_time()
        stream(schema, pieces)
        spent += time.thread_time() - started
        pieces_read += len(pieces)
        files += 1
    print(f"SchemaStore: {files} valid files, {pieces_read} pieces of 4, {spent / pieces_read * 1e6:.2f} us each")


def main() -> int:
    print(f"{'':18} {'chars':>6} {'per 4':>6} {'per 16':>6} {'per 1':>6} {'whole':>8} {'full':>8} {'fence':>6}  us")
    for name, (schema, document) in CASES.items():
        measure(name, compile_schema(schema), json.dumps(document))
    for name, (schema, document) in CASES.items():
        compiled, planned = compiling(schema, json.dumps(document))
        print(f"{name:18} compiling {compiled:5.0f} us, plans of the first document {planned:4.0f} us")
    schemastore()
    return 0


if __name__ == "__main__":
    sys.exit(main())
