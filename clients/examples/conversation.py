#!/usr/bin/env python3
"""Three turns of one conversation; the system prompt is sent once, and by its key after that.

python clients/examples/conversation.py [host:port]
"""

from __future__ import annotations

import sys

import anyio

from gearshift.clients import assistant, background, call, dial, user
from gearshift.v1 import call_pb2

SYSTEM = "You help people who repair bicycles. You answer in one short paragraph, for {{reader}}. " + (
    "Where a tool is needed, you name it. Where something is dangerous, you say so first. " * 6
)
QUESTIONS = ["Why does my chain slip?", "How do I measure it?", "What would a new one cost?"]


async def main(target: str) -> int:
    """Ask the questions in order, each with what was said before it."""
    turns: list[call_pb2.Message] = []
    async with dial(target) as client:
        for question in QUESTIONS:
            turns.append(user(question))
            asked = call(
                "workshop",
                task_type="generate",
                messages=turns,
                system=SYSTEM,
                variables={"reader": "a beginner"},  # kept apart, so that the prompt's text stays the same
            )
            answer = await client.route(background().with_timeout(30), asked)
            turns.append(assistant(answer))  # with its tool calls and its provider's state
            print(f"> {question}\n{answer.text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
