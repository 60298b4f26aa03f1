"""What is asked, what the right answers are, and what a gateway's caller was given.

Rules: each simulated provider answers a text of its own, so that a text put together from two providers is seen; a
document has one right form. Every value of the schema is closed, so that a token that comes twice breaks the document,
and the document is flat: a guardrail of one of the gateways finds only the innermost object of a nested one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from gearshift.server.simulator.tokens import tokens_of

PRIMARY, SECONDARY, GONE = "primary", "secondary", "gone"
"""Providers: the one with the fault, the healthy one, and one where nothing listens."""

TEXTS = {
    PRIMARY: (
        "A gearbox lets an engine turn at a speed that suits it while the road asks for another. Low gears trade speed "
        "for force, so a loaded car can start on a hill. High gears do the opposite on flat roads, where little force "
        "is needed. The driver changes between them, and the clutch keeps each change smooth."
    ),
    SECONDARY: (
        "Think of a bicycle: the small wheel in front helps you climb, and the large one helps you hurry. A gearbox does "
        "the same with toothed wheels in oil. It matches what the motor likes to what the journey needs, and wastes very "
        "little on the way. Without it every start would be slow or every trip loud."
    ),
}
TEXTS[GONE] = TEXTS[PRIMARY]

DOCUMENT: dict[str, object] = {
    "number": "INV-4711",
    "kind": "service",
    "currency": "EUR",
    "total": 1280,
    "paid": False,
    "item": "bearing",
    "count": 12,
    "date": "2026-05-10",
    "country": "Austria",
}
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "number": {"type": "string", "pattern": "^INV-[0-9]{4}$"},
        "kind": {"type": "string", "enum": ["goods", "service", "credit"]},
        "currency": {"type": "string", "enum": ["EUR", "USD", "CHF"]},
        "total": {"type": "integer", "minimum": 1, "maximum": 9999},
        "paid": {"type": "boolean"},
        "item": {"type": "string", "enum": ["bearing", "oil", "shaft"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
        "date": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
        "country": {"type": "string", "enum": ["Austria", "France", "Italy"]},
    },
    "required": ["number", "kind", "currency", "total", "paid", "item", "count", "date", "country"],
    "additionalProperties": False,
}
SCHEMA_NAME = "invoice"

_TEXT_PROMPT = "Explain to a beginner what a gearbox is for. Reader number {number}. {marker}"
_JSON_PROMPT = (
    "Invoice INV-4711 of 2026-05-10 from Austria, for service: count 12, item bearing, total 1280 EUR, paid: false. Give the "
    "invoice as JSON. Reader number {number}. {marker}"
)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How an answer is asked for."""

    json: bool
    stream: bool

    @property
    def name(self) -> str:
        """For tables."""
        return f"{'JSON' if self.json else 'text'} {'stream' if self.stream else 'unary'}"


MODES = tuple(Mode(json=json, stream=stream) for stream in (True, False) for json in (False, True))


@dataclass(frozen=True, kw_only=True)
class Question:
    """One run: `lane` is its number, `gone` asks the provider where nothing listens."""

    prompt: str
    mode: Mode
    gone: bool = False
    lane: int = 0


@dataclass(kw_only=True)
class Heard:
    """What the caller was given.

    Args:
        error: why it was no success as far as the caller was told; empty looked like success.
        finish: the finish reason that came, empty without one.
        latency_s: to the end; `first_text_s` to the first visible text, None without any.
        retracts: how often text that had been shown was taken back.
    """

    text: str = ""
    error: str = ""
    finish: str = ""
    latency_s: float = 0.0
    first_text_s: float | None = None
    retracts: int = 0


def prompt(mode: Mode, number: int, marker: str) -> str:
    """Give the prompt of a run."""
    return (_JSON_PROMPT if mode.json else _TEXT_PROMPT).format(number=number, marker=marker)


def answer_tokens(mode: Mode) -> int:
    """Give the tokens of the faulty provider's whole answer."""
    return len(tokens_of(json.dumps(DOCUMENT) if mode.json else TEXTS[PRIMARY]))
