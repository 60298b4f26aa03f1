"""`gearshift embed`: one vector a text.

Rules: standard output holds one JSON array a text, in their order, or with --similarity a table.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Final

from gearshift.clients.cli.arguments import (
    add_connection,
    client_from,
    context_from,
    print_json,
    read_standard_input,
    read_text,
)
from gearshift.clients.cli.command import CALLS
from gearshift.clients.cli.exits import OK, UsageError
from gearshift.clients.cli.terminal import palette_for, safe, table

name: Final = "embed"
help: Final = CALLS[name]

_EPILOG: Final = """\
examples:
  gearshift embed "a gear" "a cog" "a river" --similarity
  gearshift embed --file texts.txt --input-type document > vectors.jsonl
  cat questions.txt | gearshift embed --input-type query --json | jq .vector_space"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; none reads lines from standard input")
    parser.add_argument("--file", metavar="FILE", help="read texts from a file, one a line")
    parser.add_argument("--task", default="cli", metavar="ID", help="the id that cost is attributed to (default: cli)")
    parser.add_argument("--input-type", choices=("query", "document"), help="what the texts are for")
    parser.add_argument("--dimensions", type=int, metavar="N", help="length of each vector (default: the model's own)")
    parser.add_argument("--truncation", choices=("error", "end"), help="what happens to a text that is too long")
    parser.add_argument("--vector-space", default="", metavar="NAME", help="the space that the vectors must be in")
    parser.add_argument(
        "--sensitivity", choices=("public", "internal", "restricted"), help="the clearance that a provider must have"
    )
    parser.add_argument("--similarity", action="store_true", help="print how alike the texts are (cosine), not vectors")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the decision also beyond a terminal")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render
    from gearshift.v1 import answer_pb2

    texts = _texts(arguments)
    with client_from(arguments) as client:
        response = client.embed(
            context_from(arguments),
            arguments.task,
            texts,
            input_type=arguments.input_type,
            dimensions=arguments.dimensions,
            truncation=arguments.truncation,
            vector_space=arguments.vector_space,
            sensitivity=arguments.sensitivity,
        )
    vectors = [list(one.values) for one in response.embeddings]
    if arguments.json:
        print_json(response)
    elif arguments.similarity:
        print(similarity_table(texts, vectors))
    else:
        for vector in vectors:
            print(json.dumps(vector))
    if not arguments.json and (arguments.verbose or sys.stderr.isatty()):
        answer = answer_pb2.Answer(
            request_id=response.request_id, resolution=response.resolution, completion=response.completion
        )
        print(render.decision(answer, palette_for(sys.stderr)), file=sys.stderr)
    return OK


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the cosine of two vectors, -1 to 1; 0 when one is zero."""
    length = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0


def similarity_table(texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> str:
    """Give the cosine of each pair, as a table."""
    rows = [
        [f"{index + 1}", *(f"{cosine(vector, other):.2f}" for other in vectors), safe(" ".join(text.split())[:60])]
        for index, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    headings = ["", *(str(index + 1) for index in range(len(texts))), "text"]
    return table(headings, rows, palette_for(sys.stdout), right="r" * (len(texts) + 1))


def _texts(arguments: argparse.Namespace) -> list[str]:
    if arguments.texts and arguments.file:
        raise UsageError("give texts or --file, not both")
    texts: list[str] = arguments.texts
    if arguments.file:
        texts = read_text(arguments.file).splitlines()
    elif not texts:
        if sys.stdin.isatty():
            raise UsageError("texts are needed: as arguments, with --file, or on standard input")
        texts = read_standard_input().splitlines()
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError("there is no text to embed")
    return texts
