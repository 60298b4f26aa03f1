from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gearshift.core.embedded.vectors import pooled, windows
from gearshift.core.embedded.wire import (
    completion_body,
    embeddings_body,
    fork_body,
    prompt_usage,
    read_failure,
    read_fork,
    read_tokens,
)
from gearshift.core.failures import ProviderFailure
from gearshift.core.request import JsonOutput, Parameters
from gearshift.core.words import FailureKind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        pytest.param(
            400,
            {"type": "exceed_context_size_error", "n_prompt_tokens": 9002, "n_ctx": 8192},
            FailureKind.CONTEXT_LENGTH,
            id="too long",
        ),
        pytest.param(400, {"type": "invalid_request_error"}, FailureKind.INVALID_REQUEST, id="invalid"),
        pytest.param(503, {"type": "unavailable_error"}, FailureKind.OVERLOAD, id="loading"),
        pytest.param(404, {"type": "not_found_error"}, FailureKind.INVALID_REQUEST, id="unknown path"),
        pytest.param(500, {"type": "server_error"}, FailureKind.SERVER, id="fault"),
        pytest.param(500, None, FailureKind.SERVER, id="no error object"),
    ],
)
def test_error_answers_are_typed(status: int, error: dict[str, Any] | None, kind: FailureKind) -> None:
    found = read_failure(status, {"error": error})
    assert found.kind is kind
    assert found.status == status


def test_a_completion_carries_what_the_caller_set_and_no_more() -> None:
    parameters = Parameters(temperature=0.7, top_p=0.9, max_tokens=5, stop=("END",), seed=-1)
    body = completion_body([2, 7], parameters, stop=("\nUser:",), stream=True, logprobs=True)
    assert body == {
        "prompt": [2, 7],
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 4294967295,
        "stop": ["\nUser:", "END"],
        "cache_prompt": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "repeat_penalty": 1.1,
        "logprobs": 2,
    }


def test_a_json_answer_is_held_to_its_schema_and_extra_fields_win() -> None:
    output = JsonOutput(schema='{"type":"object"}')
    body = completion_body([2], Parameters(), output=output, stream=False, logprobs=False, extra={"max_tokens": 9})
    assert body["json_schema"] == {"type": "object"}
    assert "repeat_penalty" not in body  # it would punish the copying that extraction is
    assert body["max_tokens"] == 9
    assert completion_body([2], Parameters(), output=JsonOutput(), stream=False, logprobs=False)["json_schema"] == {}


def test_a_fork_asks_for_its_ways_alone() -> None:
    body = fork_body([2, 5], (11, 12))
    assert body["logit_bias"] == [[11, 100.0], [12, 100.0]]
    assert (body["n_probs"], body["top_k"], body["n_predict"]) == (2, 2, 1)
    answer = {
        "completion_probabilities": [
            {"id": 12, "prob": 0.25, "top_probs": [{"id": 11, "prob": 0.75}, {"id": 12, "prob": 0.25}]}
        ],
        "tokens_evaluated": 2,
        "timings": {"cache_n": 1},
    }
    assert read_fork(answer) == {11: 0.75, 12: 0.25}
    assert (prompt_usage(answer).input_tokens, prompt_usage(answer).cache_read_tokens) == (2, 1)


def test_embeddings_are_asked_for_by_token_ids() -> None:
    assert embeddings_body([[2, 5], [2]]) == {"input": [[2, 5], [2]], "embd_normalize": -1}


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        pytest.param(read_tokens, {}, id="no tokens"),
        pytest.param(read_tokens, {"tokens": None}, id="null for tokens"),
        pytest.param(read_fork, {"completion_probabilities": []}, id="no probabilities"),
        pytest.param(read_fork, {"completion_probabilities": [{"top_probs": [{"id": 1}]}]}, id="an id without one"),
    ],
)
def test_an_answer_of_another_shape_is_malformed(read: Callable[[Any], object], answer: dict[str, Any]) -> None:
    with pytest.raises(ProviderFailure) as caught:
        read(answer)
    assert caught.value.kind is FailureKind.MALFORMED


def test_a_long_text_is_cut_into_windows_that_lose_nothing() -> None:
    assert windows([2, 3, 4, 5, 6, 7], 3) == [[2, 3, 4], [2, 5, 6], [2, 7]]
    assert windows([2, 3, 4], 3) == [[2, 3, 4]]
    assert windows([2], 3) == [[2]]


def test_windows_count_by_their_length() -> None:
    assert pooled([[1.0, 0.0], [0.0, 1.0]], [3, 4]) == pytest.approx((0.6, 0.8))
    assert pooled([[0.0, 0.0]], [1]) == (0.0, 0.0)
