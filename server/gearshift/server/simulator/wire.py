"""What the wire formats have in common: how one is used, and how frames are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec

from gearshift.server.simulator.answers import Answer, Token
from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.draws import Draws

UNREADABLE = "\ue000\ue001"
"""Stands in a text where bytes that are no UTF-8 shall come: two characters that nobody writes."""


class UsageStyle(Enum):
    """When a provider tells the tokens that it counted."""

    END = "end"
    CUMULATIVE = "cumulative"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer as the provider sees it: `id` in the format's own look comes from `draws`; `created` is a Unix time."""

    ask: Ask
    answer: Answer
    input_tokens: int
    usage: UsageStyle
    logprobs: bool
    draws: Draws
    created: int
    cached_tokens: int = 0


class Route(Enum):
    """What a path leads to."""

    CHAT = "chat"
    EMBED = "embed"
    MODELS = "models"
    MODEL = "model"
    COUNT = "count"
    ALIVE = "alive"


class Wire(Protocol):
    """One wire format. Stateless."""

    name: str
    base_path: str
    """What stands between a provider's address and its paths in a client's base URL."""
    stream_type: str
    """Content type of a stream."""
    request_id: str
    """Header in which a response tells the request's id."""

    def route(self, method: str, path: str) -> Route | None:
        """Tell where a path leads; None is nowhere."""
        ...

    def read(self, route: Route, body: bytes) -> Ask:
        """Read a request.

        Raises:
            BadRequestError: it is not what the format says.
        """
        ...

    def opening(self, reply: Reply) -> list[bytes]:
        """Give the frames before the first token."""
        ...

    def drawn(self, reply: Reply) -> int:
        """Give the tokens that the opening says were generated: they are billed though none was sent."""
        ...

    def tokens(self, reply: Reply, tokens: Sequence[Token], written: int) -> bytes:
        """Give the frame of some tokens, of which `written` came before."""
        ...

    def ending(self, reply: Reply, *, marked: bool) -> list[bytes]:
        """Give the frames after the last token; the last is the end mark, unless not `marked`."""
        ...

    def whole(self, reply: Reply) -> bytes:
        """Give the answer in one body."""
        ...

    def vectors(self, ask: Ask, vectors: Sequence[Sequence[float]], tokens: int | None) -> bytes:
        """Give vectors; `tokens` is None when they are not counted."""
        ...

    def error(self, status: int) -> bytes:
        """Give the body of an error in the format's own words."""
        ...

    def refused(self, status: int, message: str) -> bytes:
        """Give the body of an error about the request itself, 400 or 404."""
        ...

    def error_frame(self, status: int) -> bytes:
        """Give an error as it comes inside a stream."""
        ...

    def malformed_frame(self) -> bytes:
        """Give a frame that is not JSON."""
        ...

    def about(self, route: Route, models: Sequence[str], path: str, ask: Ask | None) -> bytes:
        """Answer what is not an answer: lists of models, one model, counted tokens, a sign of life."""
        ...


def encoded(document: object) -> bytes:
    """Write JSON; UNREADABLE becomes two bytes that are no UTF-8."""
    return msgspec.json.encode(document).replace(UNREADABLE.encode(), b"\xff\xfe")


def sse(document: object, *, event: str = "") -> bytes:
    """Give a server-sent event."""
    head = f"event: {event}\ndata: ".encode() if event else b"data: "
    return head + encoded(document) + b"\n\n"
