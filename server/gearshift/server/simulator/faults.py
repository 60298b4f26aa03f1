"""Every fault that a simulated provider can have, as data.

Rules: a fault is one text, such as `cut@7`, `cut@5-40` or `stall@5:30`: its name, after how many tokens, and a value. What it means,
and where, stands in FACTS, which docs/simulator.md repeats (a test checks it). A fault that makes no sense for a request,
such as a cut stream for a unary answer without tokens, changes nothing, and the account says that it did not apply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from gearshift.server.simulator.draws import Draws


class FaultKind(Enum):
    """How a provider fails; the value is the fault's name in plans and headers."""

    REFUSED = "refused"
    RESET = "reset"
    HANG = "hang"
    UNAUTHORIZED = "unauthorized"
    PAYMENT_REQUIRED = "payment_required"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    EMPTY = "empty"
    HTML = "html"
    WRONG_TYPE = "wrong_type"
    ERROR_IN_STREAM = "error_in_stream"
    CUT = "cut"
    CLOSE = "close"
    STALL = "stall"
    DRIP = "drip"
    MALFORMED = "malformed"
    INVALID_UTF8 = "invalid_utf8"
    DUPLICATE = "duplicate"
    NO_END = "no_end"
    NO_DONE = "no_done"
    NO_USAGE = "no_usage"
    BAD_JSON = "bad_json"
    LOOP = "loop"
    REFUSAL = "refusal"
    FILTERED = "filtered"
    LANGUAGE = "language"
    UNSURE = "unsure"


class Value(Enum):
    """What stands after the colon of a fault."""

    NONE = ""
    SECONDS = "seconds"
    TOKENS = "tokens"
    TYPE = "a content type"
    LANGUAGE = "de or ru"
    ERROR = "overloaded, server_error or rate_limited"


class Form(Enum):
    """What is asked for."""

    STREAM = "stream"
    UNARY = "unary"
    EMBED = "embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultFacts:
    """What a fault is.

    Args:
        means: what the provider does.
        positioned: it happens after n tokens (`@n`); without a number, after half of the answer's.
        value: what may stand after the colon; `default` without it.
        forms: where it applies.
        wires: the wire formats that have it; empty is all.
    """

    means: str
    positioned: bool = False
    value: Value = Value.NONE
    default: str = ""
    forms: frozenset[Form] = frozenset(Form)
    wires: frozenset[str] = frozenset()


_STREAMS = frozenset({Form.STREAM})
_ANSWERS = frozenset({Form.STREAM, Form.UNARY})

FACTS: Mapping[FaultKind, FaultFacts] = MappingProxyType(
    {
        FaultKind.REFUSED: FaultFacts(means="nothing listens: connections are refused, for all of the provider"),
        FaultKind.RESET: FaultFacts(means="the connection is reset once the request has come"),
        FaultKind.HANG: FaultFacts(
            means="nothing comes, not even headers, for so many seconds; then it goes on",
            value=Value.SECONDS,
            default="600",
        ),
        FaultKind.UNAUTHORIZED: FaultFacts(means="401 in the format's own words"),
        FaultKind.PAYMENT_REQUIRED: FaultFacts(means="402 in the format's own words"),
        FaultKind.RATE_LIMITED: FaultFacts(means="429, with Retry-After when seconds are given", value=Value.SECONDS),
        FaultKind.SERVER_ERROR: FaultFacts(means="500 in the format's own words"),
        FaultKind.UNAVAILABLE: FaultFacts(means="503, with Retry-After when seconds are given", value=Value.SECONDS),
        FaultKind.OVERLOADED: FaultFacts(means="529 in the format's own words"),
        FaultKind.EMPTY: FaultFacts(means="200 and nothing in it"),
        FaultKind.HTML: FaultFacts(means="200 and a web page"),
        FaultKind.WRONG_TYPE: FaultFacts(
            means="the right body under a wrong content type", value=Value.TYPE, default="application/octet-stream"
        ),
        FaultKind.ERROR_IN_STREAM: FaultFacts(
            means="200, n tokens, then an error as the format sends it inside a stream; a unary body is the error alone",
            positioned=True,
            value=Value.ERROR,
            default="overloaded",
        ),
        FaultKind.CUT: FaultFacts(means="the connection is reset after n tokens", positioned=True),
        FaultKind.CLOSE: FaultFacts(
            means="the connection is closed in order after n tokens, without the body's end", positioned=True
        ),
        FaultKind.STALL: FaultFacts(
            means="n tokens, silence for so many seconds, then the rest",
            positioned=True,
            value=Value.SECONDS,
            default="30",
        ),
        FaultKind.DRIP: FaultFacts(
            means="from token n on, so many seconds before each token",
            positioned=True,
            value=Value.SECONDS,
            default="0.5",
            forms=_ANSWERS,
        ),
        FaultKind.MALFORMED: FaultFacts(means="a frame after n tokens is not JSON", positioned=True),
        FaultKind.INVALID_UTF8: FaultFacts(
            means="a frame after n tokens holds bytes that are no text", positioned=True
        ),
        FaultKind.DUPLICATE: FaultFacts(
            means="the frame of the n-th token comes twice", positioned=True, forms=_STREAMS
        ),
        FaultKind.NO_END: FaultFacts(
            means="the body ends in order after n tokens, without finish reason, usage and end mark",
            positioned=True,
            forms=_STREAMS,
        ),
        FaultKind.NO_DONE: FaultFacts(
            means="all is there but the end mark (`[DONE]`, `message_stop`)",
            forms=_STREAMS,
            wires=frozenset({"openai", "anthropic"}),
        ),
        FaultKind.NO_USAGE: FaultFacts(means="tokens are not counted"),
        FaultKind.BAD_JSON: FaultFacts(
            means="from token n on the JSON breaks the asked schema, or the label is none of the asked ones",
            positioned=True,
            forms=_ANSWERS,
        ),
        FaultKind.LOOP: FaultFacts(
            means="from token n on the last words repeat for so many tokens",
            positioned=True,
            value=Value.TOKENS,
            default="256",
            forms=_ANSWERS,
        ),
        FaultKind.REFUSAL: FaultFacts(
            means="after n tokens the model says that it cannot help, and ends", positioned=True, forms=_ANSWERS
        ),
        FaultKind.FILTERED: FaultFacts(
            means="after n tokens the provider's filter stops the answer (`content_filter`, `refusal`)",
            positioned=True,
            forms=_ANSWERS,
            wires=frozenset({"openai", "anthropic"}),
        ),
        FaultKind.LANGUAGE: FaultFacts(
            means="from token n on the text is in another language",
            positioned=True,
            value=Value.LANGUAGE,
            default="ru",
            forms=_ANSWERS,
        ),
        FaultKind.UNSURE: FaultFacts(
            means="from token n on log-probabilities are low",
            positioned=True,
            forms=_ANSWERS,
            wires=frozenset({"openai", "ollama"}),
        ),
    }
)

STATUSES: Mapping[FaultKind, int] = MappingProxyType(
    {
        FaultKind.UNAUTHORIZED: 401,
        FaultKind.PAYMENT_REQUIRED: 402,
        FaultKind.RATE_LIMITED: 429,
        FaultKind.SERVER_ERROR: 500,
        FaultKind.UNAVAILABLE: 503,
        FaultKind.OVERLOADED: 529,
    }
)

_ALIASES: Mapping[str, FaultKind] = {str(status): kind for kind, status in STATUSES.items()}
_FAULT = re.compile(r"([a-z0-9_]+)(?:@(\d{1,6})(?:-(\d{1,6}))?)?(?::(\S{1,100}))?")
_TYPE = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+")
_MOST_SECONDS = 3600.0
_ERRORS = {"overloaded": 529, "server_error": 500, "rate_limited": 429}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; `str` gives its text back.

    Args:
        after: tokens before it, from 0; None is half of the answer's.
        until: where it is drawn from a range, its last number; else None.
        value: as written, or the default.
    """

    kind: FaultKind
    after: int | None = None
    until: int | None = None
    value: str = ""

    def __str__(self) -> str:
        """Give the text that `fault` reads."""
        at = f"@{self.after}" if self.after is not None else ""
        at += f"-{self.until}" if self.until is not None else ""
        return f"{self.kind.value}{at}{':' if self.value else ''}{self.value}"

    @property
    def facts(self) -> FaultFacts:
        """What it is."""
        return FACTS[self.kind]

    @property
    def seconds(self) -> float:
        """Its value as seconds; 0 without one."""
        return float(self.value or 0)

    @property
    def error_status(self) -> int:
        """The HTTP status whose words an error inside a stream has."""
        return _ERRORS[self.value]

    def applies(self, wire: str, form: Form, *, structured: bool) -> bool:
        """Tell whether it means anything for what is asked; `structured` is an answer of JSON or one of some labels."""
        facts = self.facts
        return (
            form in facts.forms
            and (not facts.wires or wire in facts.wires)
            and (structured or self.kind is not FaultKind.BAD_JSON)
        )

    def placed(self, draws: Draws) -> Fault:
        """Give it at one place of its range."""
        if self.until is None or self.after is None:
            return self
        return replace(self, after=self.after + draws.number(self.until - self.after + 1, "place"), until=None)

    def position(self, tokens: int) -> int:
        """Give the tokens before it in an answer of so many, at most all of them."""
        return tokens // 2 if self.after is None else min(self.after, tokens)


def fault(text: str) -> Fault:
    """Read a fault.

    Raises:
        ValueError: there is none of this name, or its parts are wrong; says what to write.
    """
    match = _FAULT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:60]!r} is not a fault: write its name, as in cut@7 or stall@5:30")
    name, after, until, value = match[1], match[2], match[3], match[4] or ""
    kind = _ALIASES.get(name) or next((kind for kind in FaultKind if kind.value == name), None)
    if kind is None:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(kind.value for kind in FaultKind)}")
    facts = FACTS[kind]
    if after is not None and not facts.positioned:
        raise ValueError(f"{kind.value} has no place in the answer: leave out @{after}")
    if value and facts.value is Value.NONE:
        raise ValueError(f"{kind.value} takes no value: leave out :{value}")
    value = value or facts.default
    if value and not _fits(value, facts.value):
        raise ValueError(f"{kind.value}:{value}: the value must be {facts.value.value}")
    if after is not None and until is not None and int(until) < int(after):
        raise ValueError(f"{kind.value}@{after}-{until}: the range ends before it begins")
    return Fault(
        kind=kind,
        after=int(after) if after is not None else None,
        until=int(until) if until is not None else None,
        value=value,
    )


def _fits(value: str, kind: Value) -> bool:
    match kind:
        case Value.SECONDS:
            return re.fullmatch(r"\d{1,5}(\.\d{1,6})?", value) is not None and float(value) <= _MOST_SECONDS
        case Value.TOKENS:
            return re.fullmatch(r"\d{1,5}", value) is not None
        case Value.TYPE:
            return _TYPE.fullmatch(value) is not None
        case Value.LANGUAGE:
            return value in ("de", "ru")
        case Value.ERROR:
            return value in _ERRORS
        case Value.NONE:
            return False
