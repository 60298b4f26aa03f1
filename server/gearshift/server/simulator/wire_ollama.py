"""Ollama's own API, as the server writes it.

Source: https://docs.ollama.com/api. A stream is one JSON object a line; tokens are counted in the last one only, so the
usage style `cumulative` is `end` here. A request without `stream` is a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from gearshift.server.simulator.answers import Finish, Token
from gearshift.server.simulator.ask import Ask, enumerated, spoken_labels, spoken_schema
from gearshift.server.simulator.faults import Form
from gearshift.server.simulator.fields import (
    Fields,
    body_of,
    content_of,
    count_of,
    inputs_of,
    mapping,
    stops_of,
    text_of,
    turns_of,
)
from gearshift.server.simulator.wire import Reply, Route, UsageStyle, encoded

_ERRORS: dict[int, str] = {
    401: "unauthorized",
    402: "payment required: insufficient credit",
    429: "too many requests",
    500: "an error was encountered while running the model: unexpected EOF",
    503: "server busy, please try again. maximum pending requests exceeded",
    529: "the server is overloaded",
}


class OllamaWire:
    """Ollama's format."""

    name = "ollama"
    base_path = ""
    stream_type = "application/x-ndjson"
    request_id = "x-request-id"

    def route(self, method: str, path: str) -> Route | None:
        """Tell where a path leads."""
        match method, path:
            case "POST", "/api/chat":
                return Route.CHAT
            case "POST", "/api/embed":
                return Route.EMBED
            case "GET", "/api/tags":
                return Route.MODELS
            case "POST", "/api/show":
                return Route.MODEL
            case "GET", "/" | "/api/version":
                return Route.ALIVE
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
        system = "\n\n".join(content_of(turn.get("content")) for turn in turns if turn.get("role") == "system")
        said = [turn for turn in turns if turn.get("role") != "system"]
        prefill = content_of(said.pop().get("content")) if said and said[-1].get("role") == "assistant" else ""
        options = mapping(fields.get("options")) or {}
        wanted = fields.get("format")
        schema = mapping(wanted) or spoken_schema(system)
        return Ask(
            form=Form.UNARY if fields.get("stream") is False else Form.STREAM,
            model=model,
            system=system,
            texts=tuple(content_of(turn.get("content")) for turn in said),
            prefill=prefill,
            max_tokens=count_of(options.get("num_predict")),
            labels=enumerated(schema) if wanted or schema else spoken_labels(system),
            schema=schema,
            json=bool(wanted),
            logprobs=fields.get("logprobs") is True,
            stops=stops_of(options.get("stop")),
        )

    def opening(self, reply: Reply) -> list[bytes]:
        """Give nothing: the first token opens the stream."""
        return []

    def drawn(self, reply: Reply) -> int:
        """Give 0: nothing is counted before the first token."""
        return 0

    def tokens(self, reply: Reply, tokens: Sequence[Token], written: int) -> bytes:
        """Give a line of text."""
        return encoded(_line(reply, tokens, done=False)) + b"\n"

    def ending(self, reply: Reply, *, marked: bool) -> list[bytes]:
        """Give the last line, which is the end mark and counts."""
        return [encoded({**_line(reply, (), done=True), **_end(reply)}) + b"\n"]

    def whole(self, reply: Reply) -> bytes:
        """Give the answer in one object."""
        return encoded({**_line(reply, reply.answer.tokens, done=True), **_end(reply)})

    def vectors(self, ask: Ask, vectors: Sequence[Sequence[float]], tokens: int | None) -> bytes:
        """Give embeddings."""
        body: Fields = {"model": ask.model, "embeddings": vectors, "total_duration": 1_000_000, "load_duration": 0}
        return encoded(body if tokens is None else {**body, "prompt_eval_count": tokens})

    def error(self, status: int) -> bytes:
        """Give an error."""
        return encoded({"error": _ERRORS[status]})

    def refused(self, status: int, message: str) -> bytes:
        """Give an error about the request."""
        return encoded({"error": message})

    def error_frame(self, status: int) -> bytes:
        """Give an error as a line."""
        return self.error(status) + b"\n"

    def malformed_frame(self) -> bytes:
        """Give a line that ends in the middle."""
        return b'{"model":"m","created_at":"2026-11-01T10:00:00Z","message":{"role":"assistant","cont\n'

    def about(self, route: Route, models: Sequence[str], path: str, ask: Ask | None) -> bytes:
        """Give the models, what one is, or a sign of life."""
        match route:
            case Route.MODELS:
                return encoded({"models": [_model(name) for name in models]})
            case Route.MODEL:
                details = _model("")["details"]
                return encoded({"details": details, "model_info": {}, "capabilities": ["completion"]})
            case _:
                return b"Ollama is running" if path == "/" else encoded({"version": "0.6.3"})


def _line(reply: Reply, tokens: Sequence[Token], *, done: bool) -> Fields:
    created = datetime.fromtimestamp(reply.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    message = {"role": "assistant", "content": "".join(token.text for token in tokens)}
    made: Fields = {"model": reply.ask.model, "created_at": created, "message": message, "done": done}
    if reply.logprobs and tokens:
        made["logprobs"] = [_scored(token) for token in tokens]
    return made


def _end(reply: Reply) -> Fields:
    # Ollama says `load` and `unload` too; whatever stopped a text that is not too long is `stop`.
    made: Fields = {
        "done_reason": "length" if reply.answer.finish is Finish.LENGTH else "stop",
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
    }
    if reply.usage is not UsageStyle.NONE:
        made |= {
            "prompt_eval_count": reply.input_tokens,
            "prompt_eval_duration": 1_000_000,
            "eval_count": len(reply.answer.tokens),
            "eval_duration": 3_000_000,
        }
    return made


def _scored(token: Token) -> Fields:
    score = {"token": token.text, "logprob": token.logprob}
    rival: Fields = {"token": "~", "logprob": token.runner_up}
    return {**score, "bytes": list(token.text.encode()), "top_logprobs": [score, rival]}


def _model(name: str) -> Fields:
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-11-01T10:00:00Z",
        "size": 1_000_000_000,
        "digest": "0" * 64,
        "details": {"family": "simulated", "parameter_size": "1B", "quantization_level": "Q4_K_M"},
    }
