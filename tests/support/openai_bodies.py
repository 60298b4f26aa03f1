"""Bodies as OpenAI's and Voyage's documentation shows them.

https://platform.openai.com/docs/api-reference/chat/streaming, https://docs.voyageai.com/reference/embeddings-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.scripted_server import sse

USAGE: Mapping[str, object] = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "accepted_prediction_tokens": 0},
}


def openai_answer(
    content: str | None = "Hello",
    *,
    finish: str | None = "stop",
    message: Mapping[str, object] | None = None,
    usage: Mapping[str, object] | None = USAGE,
    logprobs: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Give a whole chat answer; `message` overrides fields of the message."""
    said: dict[str, object] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": [],
        **(message or {}),
    }
    choice: dict[str, object] = {"index": 0, "message": said, "logprobs": logprobs, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def frame(
    delta: Mapping[str, object] | None = None,
    *,
    finish: str | None = None,
    logprobs: Mapping[str, object] | None = None,
    **fields: object,
) -> dict[str, object]:
    """Give one frame of a stream."""
    choice = {"index": 0, "delta": delta or {}, "logprobs": logprobs, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **fields}


def usage_frame(usage: Mapping[str, object] = USAGE) -> dict[str, object]:
    """Give the frame that `stream_options.include_usage` brings."""
    return {"id": "c-1", "object": "chat.completion.chunk", "choices": [], "usage": usage}


def openai_stream(
    texts: Sequence[str], *, finish: str | None = "stop", usage: bool = True, done: bool = True
) -> list[str]:
    """Give the frames of a streamed answer, each as the text of one SSE event."""
    frames = [frame({"role": "assistant", "content": ""})]
    frames += [frame({"content": text}) for text in texts]
    if finish is not None:
        frames.append(frame(finish=finish))
    if usage:
        frames.append(usage_frame())
    return sse(frames, done=done)


def openai_vectors(*vectors: Sequence[float], order: Sequence[int] | None = None) -> dict[str, object]:
    """Give an embeddings answer, its rows in the given order."""
    rows = [{"object": "embedding", "index": at, "embedding": list(vector)} for at, vector in enumerate(vectors)]
    rows = [rows[at] for at in order] if order is not None else rows
    return {"object": "list", "data": rows, "model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}}


def voyage_answer(*vectors: Sequence[float]) -> dict[str, object]:
    """Give Voyage's embeddings answer, which tells only the total."""
    return openai_vectors(*vectors) | {"usage": {"total_tokens": 7}}


def openai_error(
    code: object = None, *, type_: str = "invalid_request_error", message: str = "secret"
) -> dict[str, object]:
    """Give an error in its envelope; the default message is one that must not be repeated."""
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}
