"""Answers and vectors as OpenAI's API writes them.

Rules: pure. `model` is the model that served. `usage` is that of the answer that is given, as OpenAI means it; what all
attempts used and cost stands under `gearshift`, in the body and, as far as it is a word or a number, in headers.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from gearshift.core.answer import Answer, Completion, EmbedAnswer, Usage
from gearshift.core.request import ProviderState, Resolution, ToolCall
from gearshift.core.words import FinishReason
from gearshift.server.web.openai.errors import attempt_body, usd

FINISHES: Mapping[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}


def completion_body(answer: Answer, *, created: int, fingerprint: str, single_call: bool = False) -> dict[str, Any]:
    """Give a `chat.completion`.

    Args:
        created: seconds since the epoch.
        fingerprint: of the configuration that answered.
        single_call: the caller takes one call of a tool in a turn, so further ones are left out.
    """
    completion = answer.completion
    calls = answer.tool_calls[:1] if single_call else answer.tool_calls
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not calls else None,
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = [tool_call_body(call) for call in calls]
    if completion.provider_state is not None:
        message["gearshift"] = state_body(completion.provider_state)
    return {
        "id": completion_id(answer.request_id),
        "object": "chat.completion",
        "created": created,
        "model": model_of(completion),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_of(completion, calls),
            }
        ],
        "usage": usage_body(completion.usage_served),
        "system_fingerprint": fingerprint,
        "gearshift": extension(answer.request_id, answer.resolution, completion),
    }


def embeddings_body(answer: EmbedAnswer, *, is_base64: bool) -> dict[str, Any]:
    """Give a `list` of embeddings; in base64 they are little-endian 32-bit floats."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if is_base64 else vector}
        for index, vector in enumerate(answer.embeddings)
    ]
    tokens = answer.completion.usage_served.input_tokens
    return {
        "object": "list",
        "data": data,
        "model": model_of(answer.completion),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "gearshift": extension(answer.request_id, answer.resolution, answer.completion)
        | {"vector_space": answer.vector_space, "dimensions": answer.dimensions},
    }


def completion_id(request_id: str) -> str:
    """Give the id of a completion."""
    return f"chatcmpl-{request_id}"


def model_of(completion: Completion) -> str:
    """Give the model that served."""
    return completion.served_by.model if completion.served_by is not None else ""


def finish_of(completion: Completion, tool_calls: Sequence[ToolCall]) -> str:
    """Give why the model stopped, in OpenAI's words."""
    if tool_calls:
        return "tool_calls"
    reason = completion.finish_reason
    return "stop" if reason is None or reason is FinishReason.TOOL_CALLS else FINISHES[reason]


def tool_call_body(call: ToolCall) -> dict[str, Any]:
    """Give one call of a tool."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def usage_body(usage: Usage) -> dict[str, Any]:
    """Give model tokens."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def extension(request_id: str, resolution: Resolution, completion: Completion) -> dict[str, Any]:
    """Give what OpenAI's API has no place for."""
    served, cost = completion.served_by, completion.cost
    told: dict[str, Any] = {
        "request_id": request_id,
        "outcome": completion.outcome.word,
        "task": resolution.task_id,
        "task_type": resolution.type.word,
        "complexity": resolution.complexity.word,
        "sensitivity": resolution.sensitivity.word,
        "provider": None if served is None else served.provider,
        "position": None if served is None else served.position,
        "confidence": completion.confidence,
        "cached": completion.cached,
        "total_ms": round(completion.total_ms, 1),
        "cost": {
            "total_usd": usd(cost.total_usd),
            "served_usd": usd(cost.served_usd),
            "strongest_usd": usd(cost.strongest_usd),
            "strongest_model": cost.strongest_model or None,
        },
        "usage_source": completion.usage_served.source.word,
        "usage_total": usage_body(completion.usage_total),
        "attempts": [attempt_body(each) for each in completion.attempts],
        "verdicts": [
            {"gate": each.gate, "result": each.result.word, "reason": each.reason} for each in completion.verdicts
        ],
        "notes": list(completion.notes),
    }
    if completion.label_probabilities:
        told["label_probabilities"] = dict(completion.label_probabilities)
    return told


def headers_of(request_id: str, completion: Completion | None = None) -> dict[str, str]:
    """Give the response's headers.

    Args:
        request_id: of the call.
        completion: None where the answer has not ended yet.
    """
    headers: dict[str, str] = {}
    if request_id.isascii() and request_id.isprintable():  # a caller may have sent anything
        headers["x-request-id"] = request_id
    if completion is None:
        return headers
    headers["x-gearshift-outcome"] = completion.outcome.word
    headers["x-gearshift-attempts"] = str(len(completion.attempts))
    headers["x-gearshift-cached"] = str(completion.cached).lower()
    headers["openai-processing-ms"] = str(round(completion.total_ms))
    if (served := completion.served_by) is not None:
        headers["x-gearshift-position"] = str(served.position)
        headers |= {"x-gearshift-provider": served.provider, "x-gearshift-model": served.model}
    if (cost := usd(completion.cost.total_usd)) is not None:
        headers["x-gearshift-cost-usd"] = cost
    return headers


def state_body(state: ProviderState) -> dict[str, str]:
    """Give what a message brings under `gearshift`, to be sent back with it."""
    return {"provider": state.provider, "model": state.model, "state": base64.b64encode(state.data).decode()}


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
