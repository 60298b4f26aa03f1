#!/usr/bin/env python3
"""Vectors for some texts, and which of them is nearest to a question.

python clients/examples/embed.py [host:port]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import anyio

from gearshift.clients import background, dial

TEXTS = ["Oil the chain every month.", "Pump the tyres to four bar.", "Store the battery half full."]


async def main(target: str) -> int:
    """Embed texts and question in one space; only vectors of one space may be compared."""
    ctx = background().with_timeout(20)
    async with dial(target) as client:
        documents = await client.embed(ctx, "search", TEXTS, input_type="document")
        question = await client.embed(
            ctx, "search", ["How hard should the tyres be?"], input_type="query", vector_space=documents.vector_space
        )
    near = [_cosine(question.embeddings[0].values, each.values) for each in documents.embeddings]
    print(f"space {documents.vector_space}, {documents.dimensions} numbers each")
    for text, cosine in sorted(zip(TEXTS, near, strict=True), key=lambda pair: -pair[1]):
        print(f"{cosine:6.3f}  {text}")
    return 0


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
