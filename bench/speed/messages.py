"""What travels: one request of about 0.9 KB, one answer of about 0.6 KB, and the same answer in 100 chunks.

Rules: every server under test and the fake upstream use these and nothing else, so that they do the same work.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from gearshift.v1 import call_pb2, router_pb2, task_pb2

CHUNKS = 100
PACE_S = 0.005

WHOLE, PACED, BURST = "bench-whole", "bench-paced", "bench-burst"
"""Task ids, and names of models: how the upstream is to answer."""

SYSTEM = (
    "You answer questions of customers of a shop for garden tools. Be brief and friendly, and never promise a date of "
    "delivery that the order does not state. If the question is about a refund, name the rule that applies: goods may "
    "be sent back within thirty days of arrival, unused and in their box; the money is back within ten working days. "
    "If a part is broken, ask for a photograph and offer a spare part first, an exchange second. If the question is "
    "not about the shop, say so in one sentence and offer what the shop can do. Answer in the customer's own language."
)
PROMPT = (
    "I ordered a hedge trimmer two weeks ago and the guard of the blade came with a crack in it. It runs, but I do not "
    "dare to use it like that. I still have the box and the papers. Can I have a new guard, or should I send the whole "
    "thing back? I would like to trim the hedge before the end of the month."
)
ANSWER = (
    "I am sorry that the guard arrived with a crack, and you are right not to use the trimmer like that. The quickest "
    "way is a new guard: please send us a photograph of the crack and your order number, and we will send the part "
    "without any cost to you. It is held by four screws and can be changed in five minutes, so that your hedge need not "
    "wait. Should you rather have another trimmer, you can send this one back in its box within thirty days of its "
    "arrival, and we exchange it or return the money within ten working days. Tell us which you prefer."
)
USAGE = {"prompt_tokens": 214, "completion_tokens": 131, "total_tokens": 345}


def call_of(task_id: str) -> call_pb2.Call:
    """Give the call of one of the tasks."""
    return call_pb2.Call(
        task=task_pb2.Task(id=task_id, type=task_pb2.TASK_TYPE_GENERATE),
        system=call_pb2.SystemPrompt(text=SYSTEM),
        prompt=PROMPT,
        parameters=call_pb2.Parameters(max_tokens=512),
    )


def route_request() -> bytes:
    """Give the unary request, serialised."""
    return router_pb2.RouteRequest(call=call_of(WHOLE)).SerializeToString()


def stream_request(task_id: str) -> bytes:
    """Give the request of a stream, serialised."""
    return router_pb2.StreamRouteRequest(call=call_of(task_id)).SerializeToString()


def pieces() -> list[str]:
    """Give the answer in CHUNKS pieces."""
    edges = [len(ANSWER) * index // CHUNKS for index in range(CHUNKS + 1)]
    return [ANSWER[start:end] for start, end in pairwise(edges)]


def whole_json() -> bytes:
    """Give the upstream's whole answer, in OpenAI's format."""
    return msgspec.json.encode(
        {
            "id": "chatcmpl-9f3b2c6d8e7a4b5c",
            "object": "chat.completion",
            "created": 1790000000,
            "model": "bench-model-2026-01-01",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": ANSWER, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
            "system_fingerprint": "fp_44709d6fcb",
        }
    )


def sse_frames() -> list[bytes]:
    """Give the upstream's stream: a frame for each chunk, then the end (finish reason, usage, end mark) as one."""
    texts = [_frame([_choice({"content": piece}, None)], None) for piece in pieces()]
    end = _frame([_choice({}, "stop")], None) + _frame([], USAGE) + b"data: [DONE]\n\n"
    return [*texts, end]


def _choice(delta: dict[str, str], finish: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _frame(choices: list[dict[str, object]], usage: dict[str, int] | None) -> bytes:
    body = {
        "id": "chatcmpl-9f3b2c6d8e7a4b5c",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "bench-model-2026-01-01",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
