"""OpenAI's chat and embeddings formats, as the server writes them.

Source: https://platform.openai.com/docs/api-reference/chat and its dialects (vLLM's `structured_outputs` and
`continue_final_message`, llama.cpp's `grammar`, DeepSeek's `prefix`); with usage `cumulative` every frame counts, as
where vLLM's `continuous_usage_stats` asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.server.simulator.answers import Finish, Token
from gearshift.server.simulator.ask import Ask, enumerated, grammar_labels, spoken_labels, spoken_schema
from gearshift.server.simulator.faults import Form
from gearshift.server.simulator.fields import (
    Fields,
    body_of,
    content_of,
    count_of,
    inputs_of,
    items,
    mapping,
    stops_of,
    text_of,
    texts_in,
    turns_of,
)
from gearshift.server.simulator.wire import Reply, Route, UsageStyle, encoded, sse

_SYSTEM = ("system", "developer")
_FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.FILTER: "content_filter"}
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_balance", "insufficient_balance", "Insufficient Balance"),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", "engine_overloaded", "The engine is currently overloaded, please try again later."),
    529: ("server_error", "overloaded", "The engine is currently overloaded, please try again later."),
}


class OpenAiWire:
    """OpenAI's formats."""

    name = "openai"
    base_path = "/v1"
    stream_type = "text/event-stream"
    request_id = "x-request-id"

    def route(self, method: str, path: str) -> Route | None:
        """Tell where a path leads; DeepSeek's beta address stands beside /v1."""
        path = path.removeprefix("/beta").removeprefix("/v1")
        match method, path:
            case "POST", "/chat/completions":
                return Route.CHAT
            case "POST", "/embeddings":
                return Route.EMBED
            case "GET", "/models":
                return Route.MODELS
            case "GET", _ if path.startswith("/models/"):
                return Route.MODEL
            case _:
                return None

    def read(self, route: Route, body: bytes) -> Ask:
        """Read a request."""
        fields = body_of(body)
        model = text_of(fields, "model")
        if route is Route.EMBED:
            inputs = inputs_of(fields.get("input"))
            return Ask(form=Form.EMBED, model=model, texts=inputs, dimensions=count_of(fields.get("dimensions")))
        turns = turns_of(fields)
        system = "\n\n".join(content_of(turn.get("content")) for turn in turns if turn.get("role") in _SYSTEM)
        said = [turn for turn in turns if turn.get("role") not in _SYSTEM]
        prefill = content_of(said.pop().get("content")) if said and said[-1].get("role") == "assistant" else ""
        wanted = mapping(fields.get("response_format")) or {}
        schema = (mapping(wanted.get("json_schema")) or {}).get("schema") or spoken_schema(system)
        maximum = count_of(fields.get("max_completion_tokens"))
        options = mapping(fields.get("stream_options")) or {}
        return Ask(
            form=Form.STREAM if fields.get("stream") is True else Form.UNARY,
            model=model,
            system=system,
            texts=tuple(content_of(turn.get("content")) for turn in said),
            prefill=prefill,
            max_tokens=maximum if maximum is not None else count_of(fields.get("max_tokens")),
            labels=_labels(fields, schema, system),
            schema=schema,
            json=wanted.get("type") in ("json_object", "json_schema"),
            logprobs=fields.get("logprobs") is True,
            counts=options.get("include_usage") is True,
            counts_each=options.get("continuous_usage_stats") is True,
            stops=stops_of(fields.get("stop")),
        )

    def opening(self, reply: Reply) -> list[bytes]:
        """Give the frame that names the role."""
        return [self._frame(reply, {"role": "assistant", "content": "", "refusal": None}, written=0)]

    def drawn(self, reply: Reply) -> int:
        """Give 0: nothing is counted before the first token."""
        return 0

    def tokens(self, reply: Reply, tokens: Sequence[Token], written: int) -> bytes:
        """Give the frame of some tokens."""
        text = "".join(token.text for token in tokens)
        return self._frame(reply, {"content": text}, tokens=tokens, written=written + len(tokens))

    def ending(self, reply: Reply, *, marked: bool) -> list[bytes]:
        """Give finish reason, usage and `[DONE]`."""
        count = len(reply.answer.tokens)
        frames = [self._frame(reply, {}, finish=_FINISH[reply.answer.finish], written=count)]
        if reply.usage is not UsageStyle.NONE and reply.ask.counts:
            frames.append(sse({**_chunk(reply), "choices": [], "usage": _usage(reply, count)}))
        return [*frames, b"data: [DONE]\n\n"] if marked else frames

    def whole(self, reply: Reply) -> bytes:
        """Give a chat completion."""
        choice: Fields = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.answer.text, "refusal": None, "annotations": []},
            "logprobs": _logprobs(reply.answer.tokens) if reply.logprobs else None,
            "finish_reason": _FINISH[reply.answer.finish],
        }
        body: Fields = {**_chunk(reply), "object": "chat.completion", "choices": [choice]}
        if reply.usage is not UsageStyle.NONE:
            body["usage"] = _usage(reply, len(reply.answer.tokens))
        return encoded(body)

    def vectors(self, ask: Ask, vectors: Sequence[Sequence[float]], tokens: int | None) -> bytes:
        """Give a list of embeddings."""
        rows = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        body: Fields = {"object": "list", "data": rows, "model": ask.model}
        if tokens is not None:
            body["usage"] = self._embed_usage(tokens)
        return encoded(body)

    def error(self, status: int) -> bytes:
        """Give an error in its envelope."""
        kind, code, message = _ERRORS[status]
        return encoded({"error": {"message": message, "type": kind, "param": None, "code": code}})

    def refused(self, status: int, message: str) -> bytes:
        """Give an error about the request."""
        code = "model_not_found" if status == 404 else None
        return encoded({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})

    def error_frame(self, status: int) -> bytes:
        """Give an error as vLLM and others send it in a stream."""
        return b"data: " + self.error(status) + b"\n\n"

    def malformed_frame(self) -> bytes:
        """Give an event whose data ends in the middle."""
        return b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"cont\n\n'

    def about(self, route: Route, models: Sequence[str], path: str, ask: Ask | None) -> bytes:
        """Give the models."""
        if route is Route.MODEL:
            return encoded(_model(path.rpartition("/models/")[2]))
        return encoded({"object": "list", "data": [_model(name) for name in models]})

    def _embed_usage(self, tokens: int) -> Fields:
        return {"prompt_tokens": tokens, "total_tokens": tokens}

    def _frame(
        self, reply: Reply, delta: Fields, *, written: int, tokens: Sequence[Token] = (), finish: str | None = None
    ) -> bytes:
        logprobs = _logprobs(tokens) if tokens and reply.logprobs else None
        choice: Fields = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        frame: Fields = {**_chunk(reply), "choices": [choice]}
        each = reply.usage is UsageStyle.END and reply.ask.counts and reply.ask.counts_each
        if reply.usage is UsageStyle.CUMULATIVE or each:
            frame["usage"] = _usage(reply, written)
        return sse(frame)


class VoyageWire(OpenAiWire):
    """Voyage's embeddings: OpenAI's form, other options, errors in a `detail`.

    https://docs.voyageai.com/reference/embeddings-api
    """

    name = "voyage"

    def route(self, method: str, path: str) -> Route | None:
        """Tell where a path leads: to vectors alone."""
        return Route.EMBED if (method, path.removeprefix("/v1")) == ("POST", "/embeddings") else None

    def read(self, route: Route, body: bytes) -> Ask:
        """Read a request."""
        fields = body_of(body)
        return Ask(
            form=Form.EMBED,
            model=text_of(fields, "model"),
            texts=inputs_of(fields.get("input")),
            dimensions=count_of(fields.get("output_dimension")),
        )

    def error(self, status: int) -> bytes:
        """Give an error."""
        return encoded({"detail": _ERRORS[status][2]})

    def refused(self, status: int, message: str) -> bytes:
        """Give an error about the request."""
        return encoded({"detail": message})

    def _embed_usage(self, tokens: int) -> Fields:
        return {"total_tokens": tokens}


def _chunk(reply: Reply) -> Fields:
    return {
        "id": f"chatcmpl-{reply.draws.hex(24)}",
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.ask.model,
    }


def _usage(reply: Reply, written: int) -> Fields:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": written,
        "total_tokens": reply.input_tokens + written,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _logprobs(tokens: Sequence[Token]) -> Fields:
    return {"content": [_scored(token) for token in tokens], "refusal": None}


def _scored(token: Token) -> Fields:
    score = {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode())}
    rival: Fields = {"token": "~", "logprob": token.runner_up, "bytes": [126]}
    return {**score, "top_logprobs": [score, rival]}


def _model(name: str) -> Fields:
    return {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "simulator"}


def _labels(fields: Fields, schema: object, system: str) -> tuple[str, ...]:
    if (found := enumerated(schema)) or schema is not None:
        return found
    choice = items((mapping(fields.get("structured_outputs")) or {}).get("choice") or fields.get("guided_choice"))
    if choice:
        return texts_in(choice)
    if isinstance(grammar := fields.get("grammar"), str):
        return grammar_labels(grammar)
    return () if "response_format" in fields else spoken_labels(system)
