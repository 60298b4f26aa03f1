"""Anthropic's documented bytes: whole messages, and streams event by event."""

from __future__ import annotations

import json
from collections.abc import Iterable

Event = dict[str, object]


def usage(**fields: object) -> dict[str, object]:
    """Give a usage object; what is not given is as small as the API gives it."""
    return {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        **fields,
    }


def message(
    *content: dict[str, object], stop_reason: str | None = "end_turn", counted: dict[str, object] | None = None
) -> dict[str, object]:
    """Give a whole answer."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage() if counted is None else counted,
    }


def text(value: str) -> dict[str, object]:
    """Give a text block."""
    return {"type": "text", "text": value}


def tool_use(id: str, name: str, arguments: dict[str, object]) -> dict[str, object]:
    """Give a tool call."""
    return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def thinking(value: str, signature: str) -> dict[str, object]:
    """Give a signed thinking block."""
    return {"type": "thinking", "thinking": value, "signature": signature}


def redacted(data: str) -> dict[str, object]:
    """Give a thinking block that only the provider can read."""
    return {"type": "redacted_thinking", "data": data}


def error(kind: str, words: str = "secret words of the provider", *, code: str = "") -> dict[str, object]:
    """Give an error's body; the same JSON is the data of an error event."""
    details = {"details": {"error_code": code}} if code else {}
    return {"type": "error", "error": {"type": kind, "message": words, **details}, "request_id": "req_011"}


def start(counted: dict[str, object] | None = None) -> Event:
    """Give the event that opens a stream."""
    opened = message(stop_reason=None, counted=usage(output_tokens=1) if counted is None else counted)
    return {"type": "message_start", "message": opened}


def ping() -> Event:
    """Give the event that says nothing."""
    return {"type": "ping"}


def text_block(index: int, *pieces: str) -> list[Event]:
    """Give the events of a text block."""
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return _block(index, text(""), deltas)


def tool_block(index: int, id: str, name: str, *pieces: str) -> list[Event]:
    """Give the events of a tool call, whose arguments come as pieces of JSON text."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return _block(index, tool_use(id, name, {}), deltas)


def thinking_block(index: int, signature: str, *pieces: str) -> list[Event]:
    """Give the events of a thinking block; its signature comes last."""
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    return _block(index, thinking("", ""), [*deltas, {"type": "signature_delta", "signature": signature}])


def redacted_block(index: int, data: str) -> list[Event]:
    """Give the events of a redacted thinking block, which comes whole."""
    return _block(index, redacted(data), [])


def _block(index: int, opened: dict[str, object], deltas: Iterable[dict[str, str]]) -> list[Event]:
    return [
        {"type": "content_block_start", "index": index, "content_block": opened},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def stop(stop_reason: str = "end_turn", **counted: object) -> list[Event]:
    """Give the two events that end a stream; usage in the first is cumulative."""
    return [
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": 5, **counted},
        },
        {"type": "message_stop"},
    ]


def frames(events: Iterable[Event]) -> bytes:
    """Give the events as they stand on the wire."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events
    )
