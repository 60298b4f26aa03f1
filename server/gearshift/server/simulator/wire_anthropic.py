"""Anthropic's Messages API, version 2026-10-21, as the server writes it.

Source: https://platform.claude.com/docs/en/api/messages-streaming; with usage `cumulative` a `message_delta` follows
every frame of text, which the format allows and few servers do. There are no log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.server.simulator.answers import Finish, Token
from gearshift.server.simulator.ask import Ask, enumerated, spoken_labels, spoken_schema
from gearshift.server.simulator.faults import Form
from gearshift.server.simulator.fields import (
    BadRequestError,
    Fields,
    body_of,
    content_of,
    count_of,
    mapping,
    stops_of,
    text_of,
    turns_of,
)
from gearshift.server.simulator.tokens import prompt_tokens
from gearshift.server.simulator.wire import Reply, Route, UsageStyle, encoded, sse

_STOP = {Finish.STOP: "end_turn", Finish.LENGTH: "max_tokens", Finish.FILTER: "refusal"}
_ERRORS: dict[int, tuple[str, str]] = {
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    529: ("overloaded_error", "Overloaded"),
}


class AnthropicWire:
    """Anthropic's format."""

    name = "anthropic"
    base_path = ""
    stream_type = "text/event-stream; charset=utf-8"
    request_id = "request-id"

    def route(self, method: str, path: str) -> Route | None:
        """Tell where a path leads."""
        match method, path:
            case "POST", "/v1/messages":
                return Route.CHAT
            case "POST", "/v1/messages/count_tokens":
                return Route.COUNT
            case "GET", "/v1/models":
                return Route.MODELS
            case "GET", _ if path.startswith("/v1/models/"):
                return Route.MODEL
            case _:
                return None

    def read(self, route: Route, body: bytes) -> Ask:
        """Read a request."""
        fields = body_of(body)
        turns = turns_of(fields)
        maximum = count_of(fields.get("max_tokens"))
        if maximum is None and route is Route.CHAT:
            raise BadRequestError("max_tokens: Field required")
        prefill = content_of(turns.pop().get("content")) if turns[-1].get("role") == "assistant" else ""
        system = content_of(fields.get("system"))
        wanted = mapping((mapping(fields.get("output_config")) or {}).get("format")) or {}
        schema = mapping(wanted.get("schema")) or spoken_schema(system)
        return Ask(
            form=Form.STREAM if fields.get("stream") is True else Form.UNARY,
            model=text_of(fields, "model"),
            system=system,
            texts=tuple(content_of(turn.get("content")) for turn in turns),
            prefill=prefill,
            max_tokens=maximum,
            labels=enumerated(schema) if schema is not None else spoken_labels(system),
            schema=schema,
            json=schema is not None,
            stops=stops_of(fields.get("stop_sequences")),
        )

    def opening(self, reply: Reply) -> list[bytes]:
        """Give the message's start, the text block's start, and a ping."""
        start = _message(reply, [], None)
        if reply.usage is not UsageStyle.NONE:
            start["usage"] = _usage(reply, self.drawn(reply))
        block: Fields = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return [_event({"type": "message_start", "message": start}), _event(block), _event({"type": "ping"})]

    def drawn(self, reply: Reply) -> int:
        """Give 1: the first token has been drawn when the message starts; who counts every frame counts from 0."""
        return int(reply.usage is UsageStyle.END)

    def tokens(self, reply: Reply, tokens: Sequence[Token], written: int) -> bytes:
        """Give a text delta."""
        delta = {"type": "text_delta", "text": "".join(token.text for token in tokens)}
        frame = _event({"type": "content_block_delta", "index": 0, "delta": delta})
        if reply.usage is UsageStyle.CUMULATIVE:
            frame += _event(_message_delta(reply, None, written + len(tokens)))
        return frame

    def ending(self, reply: Reply, *, marked: bool) -> list[bytes]:
        """Give the block's stop, stop reason and usage, and the message's stop."""
        reason, count = _STOP[reply.answer.finish], len(reply.answer.tokens)
        frames = [
            _event({"type": "content_block_stop", "index": 0}),
            _event(_message_delta(reply, reason, count)),
        ]
        return [*frames, _event({"type": "message_stop"})] if marked else frames

    def whole(self, reply: Reply) -> bytes:
        """Give a message."""
        blocks = [{"type": "text", "text": reply.answer.text}] if reply.answer.tokens else []
        message = _message(reply, blocks, _STOP[reply.answer.finish])
        if reply.usage is not UsageStyle.NONE:
            message["usage"] = _usage(reply, len(reply.answer.tokens))
        return encoded(message)

    def vectors(self, ask: Ask, vectors: Sequence[Sequence[float]], tokens: int | None) -> bytes:
        """Refuse: the format has no vectors, and no path leads here."""
        raise NotImplementedError

    def error(self, status: int) -> bytes:
        """Give an error in its envelope."""
        kind, message = _ERRORS[status]
        return _error(kind, message)

    def refused(self, status: int, message: str) -> bytes:
        """Give an error about the request."""
        return _error("not_found_error" if status == 404 else "invalid_request_error", message)

    def error_frame(self, status: int) -> bytes:
        """Give an error event."""
        return b"event: error\ndata: " + self.error(status) + b"\n\n"

    def malformed_frame(self) -> bytes:
        """Give an event whose data ends in the middle."""
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_d\n\n'

    def about(self, route: Route, models: Sequence[str], path: str, ask: Ask | None) -> bytes:
        """Give the models, or the tokens of a prompt."""
        if route is Route.COUNT:
            assert ask is not None
            return encoded({"input_tokens": prompt_tokens(ask.characters, 4.0)})
        if route is Route.MODEL:
            return encoded(_model(path.rpartition("/")[2]))
        edges = {"first_id": models[0] if models else None, "last_id": models[-1] if models else None}
        return encoded({"data": [_model(name) for name in models], "has_more": False, **edges})


def _event(fields: Fields) -> bytes:
    return sse(fields, event=str(fields["type"]))


def _message(reply: Reply, content: Sequence[object], stop_reason: str | None) -> Fields:
    return {
        "id": f"msg_{reply.draws.hex(24)}",
        "type": "message",
        "role": "assistant",
        "model": reply.ask.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }


def _message_delta(reply: Reply, reason: str | None, written: int) -> Fields:
    made: Fields = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}}
    if reply.usage is not UsageStyle.NONE:
        made["usage"] = {"output_tokens": written}
    return made


def _usage(reply: Reply, written: int) -> Fields:
    return {
        "input_tokens": reply.input_tokens - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": written,
    }


def _error(kind: str, message: str) -> bytes:
    return encoded({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"})


def _model(name: str) -> Fields:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
