"""Ollama's documented bytes: chat answers whole and line by line, embeddings, lists and pulls."""

from __future__ import annotations

import json
from collections.abc import Iterable

Line = dict[str, object]

_CREATED = "2026-11-01T10:00:00.000000Z"


def line(
    content: str = "",
    *,
    thinking: str = "",
    tool_calls: list[dict[str, object]] | None = None,
    logprobs: list[dict[str, object]] | None = None,
) -> Line:
    """Give a line in the middle of a stream."""
    message: dict[str, object] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if tool_calls is not None:
        message["tool_calls"] = tool_calls
    given: Line = {"model": "qwen3", "created_at": _CREATED, "message": message, "done": False}
    if logprobs is not None:
        given["logprobs"] = logprobs
    return given


def last(done_reason: str = "stop", **fields: object) -> Line:
    """Give the line that ends a stream."""
    return {
        **line(),
        "done": True,
        "done_reason": done_reason,
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": 12,
        "prompt_eval_duration": 1_000_000,
        "eval_count": 7,
        "eval_duration": 3_000_000,
        **fields,
    }


def whole(content: str = "", *, done_reason: str = "stop", **message: object) -> Line:
    """Give a whole answer."""
    return last(done_reason, message={"role": "assistant", "content": content, **message})


def tool_call(name: str, arguments: dict[str, object], *, id: str = "") -> dict[str, object]:
    """Give a tool call; older servers give it no id."""
    call: dict[str, object] = {"function": {"name": name, "arguments": arguments}}
    return {"id": id, **call} if id else call


def logprob(token: str, value: float, *rivals: tuple[str, float]) -> dict[str, object]:
    """Give a token's log-probability; the likeliest tokens include the token itself."""
    tops = [{"token": each, "logprob": score} for each, score in ((token, value), *rivals)]
    return {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": tops}


def lines(each: Iterable[Line]) -> bytes:
    """Give the lines as they stand on the wire."""
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in each)


def embedded(*vectors: list[float]) -> dict[str, object]:
    """Give an answer of `/api/embed`."""
    return {"model": "embeddinggemma", "embeddings": list(vectors), "total_duration": 1, "prompt_eval_count": 9}


def tags(*names: str) -> dict[str, object]:
    """Give an answer of `/api/tags`."""
    return {
        "models": [
            {
                "name": name,
                "model": name,
                "modified_at": _CREATED,
                "size": 5_200_000_000,
                "digest": "500a1f067a9f",
                "details": {"family": "qwen3", "parameter_size": "8.2B", "quantization_level": "Q4_K_M"},
            }
            for name in names
        ]
    }


def show() -> dict[str, object]:
    """Give an answer of `/api/show`."""
    return {
        "details": {"family": "qwen3", "parameter_size": "8.2B", "quantization_level": "Q4_K_M"},
        "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
        "capabilities": ["completion", "tools", "thinking"],
        "modified_at": _CREATED,
        "license": "Apache License 2.0\nand many more lines",
    }


def pull() -> list[Line]:
    """Give the lines of `/api/pull`."""
    return [
        {"status": "pulling manifest"},
        {"status": "pulling a3de86cd1c13", "digest": "sha256:a3de86cd1c13", "total": 100, "completed": 40},
        {"status": "pulling a3de86cd1c13", "digest": "sha256:a3de86cd1c13", "total": 100, "completed": 100},
        {"status": "verifying sha256 digest"},
        {"status": "success"},
    ]
