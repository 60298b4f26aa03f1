"""The part of llama.cpp's HTTP interface that the embedded model is spoken to with.

Rules: bodies to send and llama.cpp's own answers to read, no I/O; answers in OpenAI's formats are read by the `openai`
adapter. Prompts go as token ids from `/tokenize` with `parse_special` off, so
that "<end_of_turn>" in a caller's text stays text. The server closes its connection after a stream although it says
otherwise: send `Connection: close`, or do not keep connections. A JSON Schema that llama.cpp cannot use is ignored in
silence: check the answer. Shapes as seen on xllamacpp 2026.10.11549, in docs/embedded.md.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from gearshift.core.answer import Usage
from gearshift.core.failures import ProviderFailure
from gearshift.core.request import JsonOutput, Parameters
from gearshift.core.words import FailureKind

Body = dict[str, Any]
Answer = Mapping[str, Any]

COMPLETIONS = "/completions"
EMBEDDINGS = "/embeddings"
"""OpenAI's two are spoken by the `openai` adapter, which has them under /v1."""
TOKENIZE = "/tokenize"
HEADERS: Mapping[str, str] = {"connection": "close"}
DEFAULT_MAX_TOKENS = 256
DEFAULT_TEMPERATURE = 0.0
"""So small a model strays off its subject with more."""
_FORK_BIAS = 100.0
"""Added to the logits of the ways on: more than logits differ by, so that no other token is among the likeliest."""


def tokens_body(text: str, *, begin: bool) -> Body:
    """Give the body for /tokenize; `begin` puts the token before it that opens a text."""
    return {"content": text, "add_special": begin, "parse_special": False}


def read_tokens(answer: Answer) -> list[int]:
    """Give the ids from /tokenize.

    Raises:
        ProviderFailure: the answer has not the documented shape, as with every reader here.

    """
    with _known_shape():
        return list(answer["tokens"])


def fork_body(prompt: Sequence[int], ways: Sequence[int]) -> Body:
    """Give the body for /completion that asks for the probabilities of these next tokens among each other."""
    return {
        "prompt": list(prompt),
        "n_predict": 1,
        "temperature": 1.0,
        "samplers": ["top_k"],
        "top_k": len(ways),
        "logit_bias": [[token, _FORK_BIAS] for token in ways],
        "n_probs": len(ways),
        "post_sampling_probs": True,
        "cache_prompt": True,
        "seed": 0,
        "response_fields": ["completion_probabilities", "tokens_evaluated", "timings"],
    }


def read_fork(answer: Answer) -> dict[int, float]:
    """Give the probability of each token asked for."""
    with _known_shape():
        return {entry["id"]: float(entry["prob"]) for entry in answer["completion_probabilities"][0]["top_probs"]}


def prompt_usage(answer: Answer) -> Usage:
    """Give what a question at a fork used: its prompt, and the one token that the server had to write."""
    timings = _object(answer.get("timings"))
    return Usage(
        input_tokens=answer.get("tokens_evaluated", 0), output_tokens=1, cache_read_tokens=timings.get("cache_n", 0)
    )


def completion_body(
    prompt: Sequence[int],
    parameters: Parameters,
    *,
    stop: Sequence[str] = (),
    output: JsonOutput | None = None,
    stream: bool,
    logprobs: bool,
    extra: Mapping[str, object] | None = None,
) -> Body:
    """Give the body for OpenAI's /completions, with llama.cpp's own fields.

    Args:
        prompt: token ids, the opening token included.
        parameters: unset max_tokens is 256: a base model does not know when to stop.
        stop: the prompt's own end marks; the caller's are added.
        output: a JSON answer under its schema; without a schema any JSON value.
        stream: whether events are asked for; the last one then carries the usage.
        logprobs: also of the likeliest other token. Under a schema they are those before the grammar's choice.
        extra: fields merged last.

    """
    body: Body = {
        "prompt": list(prompt),
        "max_tokens": parameters.max_tokens or DEFAULT_MAX_TOKENS,
        "temperature": DEFAULT_TEMPERATURE if parameters.temperature is None else parameters.temperature,
        "cache_prompt": True,
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if parameters.top_p is not None:
        body["top_p"] = parameters.top_p
    if parameters.seed is not None:
        body["seed"] = parameters.seed % 2**32
    if ends := [*stop, *parameters.stop]:
        body["stop"] = ends
    if output is not None:
        body["json_schema"] = json.loads(output.schema) if output.schema else {}
    else:
        body["repeat_penalty"] = 1.1  # without it a base model this small soon repeats itself
    if logprobs:
        body["logprobs"] = 2
    return body | dict(extra or {})


def read_failure(status: int, answer: Answer) -> ProviderFailure:
    """Give the failure that an error answer stands for."""
    details = _object(answer.get("error"))
    kind = str(details.get("type", ""))
    if kind == "exceed_context_size_error":
        asked, room = details.get("n_prompt_tokens", "?"), details.get("n_ctx", "?")
        detail = f"the prompt has {asked} tokens, the embedded model's context {room}"
        return ProviderFailure(FailureKind.CONTEXT_LENGTH, detail, status=status)
    if kind == "unavailable_error" or status == 503:
        return ProviderFailure(FailureKind.OVERLOAD, "the embedded model is still loading", status=status)
    if kind == "invalid_request_error" or 400 <= status < 500:
        return ProviderFailure(FailureKind.INVALID_REQUEST, "the embedded model refused the request", status=status)
    return ProviderFailure(FailureKind.SERVER, "the embedded model had an internal fault", status=status)


def embeddings_body(inputs: Sequence[Sequence[int]]) -> Body:
    """Give the body for OpenAI's /embeddings: token ids, one row an input; the vectors come as means, not made unit length."""
    return {"input": [list(row) for row in inputs], "embd_normalize": -1}


@contextmanager
def _known_shape() -> Generator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProviderFailure(FailureKind.MALFORMED, "the embedded model's answer has an unknown shape") from error


def _object(value: object) -> Answer:
    return cast("Answer", value) if isinstance(value, dict) else {}
