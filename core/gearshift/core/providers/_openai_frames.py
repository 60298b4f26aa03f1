"""The frames of OpenAI's chat, completions and embeddings formats, as they stand on the wire.

Rules: only what is read is named; unknown fields are passed over. Nearly everything may be missing or null, since
compatible servers leave out what they like; a wrong type is an error of decoding.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class WireFunction(Struct):
    name: str | None = None
    arguments: str | None = None


class WireToolCall(Struct):
    index: int | None = None
    id: str | None = None
    function: WireFunction | None = None


class WireMessage(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[WireToolCall] | None = None


class WireAlternative(Struct):
    token: str | None = None
    logprob: float | None = None


class WireToken(Struct):
    token: str | None = None
    logprob: float | None = None
    top_logprobs: list[WireAlternative] | None = None


class WireLogprobs(Struct):
    content: list[WireToken] | None = None


class WireChoice(Struct):
    index: int | None = None
    text: str | None = None  # of /completions, where there is no message
    delta: WireMessage | None = None
    message: WireMessage | None = None
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None


class WireInputDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class WireOutputDetails(Struct):
    reasoning_tokens: int | None = None


class WireUsage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: WireInputDetails | None = None
    completion_tokens_details: WireOutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class WireError(Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    # llama.cpp's, of a prompt that does not fit.
    n_prompt_tokens: object = None
    n_ctx: object = None


class WireGroqExtra(Struct):
    usage: WireUsage | None = None


class WireFrame(Struct):
    choices: list[WireChoice] | None = None
    usage: WireUsage | None = None
    error: WireError | str | None = None
    x_groq: WireGroqExtra | None = None
    # An older vLLM's error has no envelope.
    object: str | None = None
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class WireVector(Struct):
    embedding: tuple[float, ...]
    index: int | None = None


class WireVectors(Struct):
    data: list[WireVector]
    usage: WireUsage | None = None


class WireErrorBody(Struct):
    error: WireError | str | None = None
    message: str | None = None
    detail: object = None
    type: str | None = None
    code: str | int | None = None


FRAMES = msgspec.json.Decoder(WireFrame)
VECTORS = msgspec.json.Decoder(WireVectors)
ERRORS = msgspec.json.Decoder(WireErrorBody)
