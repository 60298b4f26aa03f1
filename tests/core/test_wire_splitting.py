"""Frames out of reads, however they were cut; kinds out of errors; waits out of headers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.failures import ProviderFailure
from gearshift.core.providers import _wire
from gearshift.core.providers._wire import LineSplitter, SseSplitter, classify, is_html, is_json, retry_after_s
from gearshift.core.words import FailureKind

STREAM = (
    ": hello\n\n"
    'event: message\nid: 1\ndata: {"text":"Grüße 🦊"}\n\n'
    'data:{"no":"space"}\r\n\r\n'
    "data: two\ndata: lines\n\n"
    "retry: 5\rdata: old\r\rdata:\n\ndata\n\n"
    "\n\nother: x\ndata: [DONE]\n\n"
).encode()

EVENTS = ['{"text":"Grüße 🦊"}', '{"no":"space"}', "two\nlines", "old", "[DONE]"]


def events_of(*reads: bytes) -> list[str]:
    splitter = SseSplitter()
    found = [event for read in reads for event in splitter.feed(read)]
    return [event.decode() for event in [*found, *splitter.finish()]]


def lines_of(*reads: bytes) -> list[str]:
    splitter = LineSplitter()
    found = [line for read in reads for line in splitter.feed(read)]
    return [line.decode() for line in [*found, *splitter.finish()]]


def test_whole_stream_gives_its_events() -> None:
    assert events_of(STREAM) == EVENTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_every_cut_in_two_gives_the_same_events(at: int) -> None:
    assert events_of(STREAM[:at], STREAM[at:]) == EVENTS


def test_byte_by_byte_gives_the_same_events() -> None:
    assert events_of(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cuts_give_the_same_events(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert events_of(*(STREAM[a:b] for a, b in pairwise(edges))) == EVENTS


def test_event_without_its_last_empty_line_counts_at_the_end() -> None:
    assert events_of(b"data: [DONE]") == ["[DONE]"]
    assert events_of(b"data: [DONE]\n") == ["[DONE]"]


def test_event_is_given_as_soon_as_it_is_complete() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: a\n") == []
    assert splitter.feed(b"\ndata: b") == [b"a"]
    assert splitter.feed(b"\r\n\r\n") == [b"b"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_every_way(end: str) -> None:
    data = f"eins{end}zwei 🦊{end}{end}drei".encode()
    for at in range(len(data) + 1):
        assert lines_of(data[:at], data[at:]) == ["eins", "zwei 🦊", "", "drei"]


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20), max_size=8),
    st.integers(1, 7),
)
def test_lines_survive_any_read_size(lines: list[str], size: int) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    assert lines_of(*(data[at : at + size] for at in range(0, len(data), size))) == lines


def test_endless_line_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "FRAME_LIMIT", 1000)
    splitter = SseSplitter()
    with pytest.raises(ProviderFailure) as caught:
        for _ in range(20):
            splitter.feed(b"x" * 100)
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(
    ("status", "words", "message", "kind"),
    [
        pytest.param(400, [], "", FailureKind.INVALID_REQUEST, id="400"),
        pytest.param(400, ["context_length_exceeded"], "", FailureKind.CONTEXT_LENGTH, id="context by code"),
        pytest.param(
            400,
            ["BadRequestError"],
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            FailureKind.CONTEXT_LENGTH,
            id="context by vLLM's message",
        ),
        pytest.param(
            400, ["exceed_context_size_error"], "", FailureKind.CONTEXT_LENGTH, id="context by llama.cpp's type"
        ),
        pytest.param(400, ["content_policy_violation"], "", FailureKind.CONTENT_REFUSED, id="content by code"),
        pytest.param(400, [], "Content Exists Risk", FailureKind.CONTENT_REFUSED, id="content by DeepSeek's message"),
        pytest.param(400, ["json_validate_failed"], "", FailureKind.MALFORMED, id="Groq's model wrote bad JSON"),
        pytest.param(400, [], "API key not valid", FailureKind.AUTHENTICATION, id="key in a 400"),
        pytest.param(401, ["invalid_api_key"], "", FailureKind.AUTHENTICATION, id="401"),
        pytest.param(401, [], "", FailureKind.AUTHENTICATION, id="401 bare"),
        pytest.param(402, [], "Insufficient Balance", FailureKind.BILLING, id="402"),
        pytest.param(403, [], "", FailureKind.AUTHENTICATION, id="403"),
        pytest.param(404, ["model_not_found"], "", FailureKind.MODEL_NOT_FOUND, id="404"),
        pytest.param(
            404, ["NotFoundError"], "The model `x` does not exist.", FailureKind.MODEL_NOT_FOUND, id="404 vLLM"
        ),
        pytest.param(400, [], "The model `x` does not exist", FailureKind.MODEL_NOT_FOUND, id="model in a 400"),
        pytest.param(
            400, [], "With this model, 'top_k' is not supported", FailureKind.INVALID_REQUEST, id="a field in a 400"
        ),
        pytest.param(400, ["model_decommissioned"], "", FailureKind.MODEL_NOT_FOUND, id="model gone"),
        pytest.param(405, [], "", FailureKind.INVALID_REQUEST, id="405"),
        pytest.param(408, [], "", FailureKind.SERVER, id="408"),
        pytest.param(409, [], "", FailureKind.SERVER, id="409"),
        pytest.param(413, [], "", FailureKind.CONTEXT_LENGTH, id="413"),
        pytest.param(
            413, ["rate_limit_exceeded"], "", FailureKind.CONTEXT_LENGTH, id="413 that Groq calls a rate limit"
        ),
        pytest.param(422, [], "", FailureKind.INVALID_REQUEST, id="422"),
        pytest.param(429, [], "", FailureKind.RATE_LIMIT, id="429"),
        pytest.param(429, ["insufficient_quota"], "", FailureKind.BILLING, id="429 without credit"),
        pytest.param(429, [], "maximum context length", FailureKind.RATE_LIMIT, id="429 whatever it says"),
        pytest.param(498, [], "", FailureKind.OVERLOAD, id="498"),
        pytest.param(500, [], "", FailureKind.SERVER, id="500"),
        pytest.param(502, [], "", FailureKind.SERVER, id="502"),
        pytest.param(503, [], "", FailureKind.OVERLOAD, id="503"),
        pytest.param(503, ["server_error"], "", FailureKind.OVERLOAD, id="503 with OpenAI's type"),
        pytest.param(None, ["server_error"], "", FailureKind.SERVER, id="in a stream, OpenAI's type"),
        pytest.param(504, [], "", FailureKind.SERVER, id="504"),
        pytest.param(529, [], "", FailureKind.OVERLOAD, id="529"),
        pytest.param(599, [], "", FailureKind.SERVER, id="unknown 5xx"),
        pytest.param(418, [], "", FailureKind.INVALID_REQUEST, id="unknown 4xx"),
        pytest.param(None, ["overloaded_error"], "", FailureKind.OVERLOAD, id="in a stream, by type"),
        pytest.param(None, [], "", FailureKind.SERVER, id="in a stream, bare"),
        pytest.param(200, [], "the engine is overloaded", FailureKind.OVERLOAD, id="in a stream, by message"),
    ],
)
def test_error_has_its_kind(status: int | None, words: list[str], message: str, kind: FailureKind) -> None:
    assert classify(status, words, message) is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": "0.5"}, 0.5, id="a fraction"),
        pytest.param({"retry-after-ms": "250", "retry-after": "9"}, 0.25, id="milliseconds first"),
        pytest.param({"retry-after": "Mon, 23 Nov 2026 10:00:30 GMT"}, 30.0, id="a date, by our clock"),
        pytest.param(
            {"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": "Mon, 23 Nov 2026 12:00:10 GMT"},
            20.0,
            id="a date, by the server's clock",
        ),
        pytest.param({"retry-after": "Mon, 23 Nov 2020 10:00:00 GMT"}, 0.0, id="a date in the past"),
        pytest.param({"retry-after": "soon"}, None, id="nonsense"),
        pytest.param({"retry-after": "nan"}, None, id="not a number"),
        pytest.param({"retry-after": "-1"}, None, id="negative"),
        pytest.param(
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90.0, id="requests used up"
        ),
        pytest.param(
            {
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-requests": "6h",
                "x-ratelimit-reset-tokens": "7.5s",
            },
            7.5,
            id="tokens otherwise",
        ),
        pytest.param({"x-ratelimit-reset-tokens": "120ms"}, 0.12, id="120ms"),
        pytest.param({"x-ratelimit-reset-tokens": "1d2h3m4s"}, 93784.0, id="1d2h3m4s"),
        pytest.param({"x-ratelimit-reset-tokens": "x"}, None, id="no duration"),
    ],
)
def test_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    now = 1795428000.0  # Mon, 23 Nov 2026 10:00:00 GMT
    assert retry_after_s(headers, now=now) == (None if seconds is None else pytest.approx(seconds))


def test_content_types_are_told_apart() -> None:
    assert is_json("application/json; charset=utf-8")
    assert is_json("application/problem+json")
    assert not is_json("")
    assert not is_json("text/event-stream")
    assert is_html("Text/HTML; charset=utf-8")
    assert not is_html("application/json")
