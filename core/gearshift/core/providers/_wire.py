"""What the wire formats share: frames out of reads, and failures out of error answers.

Rules: pure; no I/O and no clock but the one passed in. Frames are cut at line ends, which no UTF-8 character contains,
so a frame is always whole text. What the provider wrote in an error is read to classify it and never repeated: every
detail is a sentence of ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType

import msgspec

from gearshift.core.failures import FAILURE_RULES, ProviderFailure
from gearshift.core.words import FailureKind

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a frame may raise: no JSON, no UTF-8, or nested too deep."""
FRAME_LIMIT = 16 * 1024 * 1024
"""Longest frame of a stream, bytes; a longer one is malformed."""


class LineSplitter:
    """Cuts reads into lines (LF, CRLF or CR), wherever the reads were cut. Linear in what it is fed."""

    __slots__ = ("_after_cr", "_held", "_size")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Give the lines that data completes, without their ends; empty lines too.

        Raises:
            ProviderFailure: MALFORMED, when a line passes FRAME_LIMIT.
        """
        if self._after_cr or b"\r" in data:
            data = self._plain(data)
        if b"\n" not in data:
            self._hold(data)
            return []
        lines = data.split(b"\n")
        if self._held:
            self._held.append(lines[0])
            lines[0] = b"".join(self._held)
            self._held.clear()
            self._size = 0
        if rest := lines.pop():
            self._hold(rest)
        return lines

    def finish(self) -> list[bytes]:
        """Give the last line, where the stream ended without a line end."""
        held = b"".join(self._held)
        self._held.clear()
        self._size = 0
        return [held] if held else []

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size > FRAME_LIMIT:
            raise malformed(f"a frame of the stream is longer than {FRAME_LIMIT} bytes")

    def _plain(self, data: bytes) -> bytes:
        """Turn every line end into LF, also one whose CR and LF came in two reads."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class SseSplitter:
    """Cuts reads into the data of server-sent events; comments, names, ids and retry times are passed over.

    https://html.spec.whatwg.org/multipage/server-sent-events.html, but for one thing: an event that the stream's end
    completes counts, since some servers leave out the last empty line.
    """

    __slots__ = ("_data", "_lines")

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Give the data of each event that was completed.

        Raises:
            ProviderFailure: MALFORMED, as LineSplitter.
        """
        return self._events(self._lines.feed(data))

    def finish(self) -> list[bytes]:
        """Give the event that the stream's end completes, if there is one."""
        return self._events([*self._lines.finish(), b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    event = data[0] if len(data) == 1 else b"\n".join(data)
                    if event:
                        events.append(event)
                    data.clear()
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        return events


_ONE_TOKEN = re.compile(
    r"\s*[!-/:-@\[-`{-~]?\w{1,24}|\s?[!-/:-@\[-`{-~]{1,16}\s*|\s+",
)


def is_one_token(text: str) -> bool:
    """Tell whether a frame's text may well be a single token: a word, a number, or signs, as tokenizers cut them.

    Where the answer is no, the frames of an answer do not count its tokens. Emoji and the like may be several.
    """
    return _ONE_TOKEN.fullmatch(text) is not None


def is_json(content_type: str) -> bool:
    """Tell whether a body says that it is JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def is_html(content_type: str) -> bool:
    """Tell whether a body is a page for people: a proxy or a login stands where the provider should be."""
    if content_type == "application/json":  # nearly always
        return False
    return content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def malformed(detail: str, *, status: int | None = None) -> ProviderFailure:
    """Give the failure of an answer that cannot be read."""
    return ProviderFailure(FailureKind.MALFORMED, detail, status=status)


def cut() -> ProviderFailure:
    """Give the failure of a stream that stopped before its end mark."""
    return ProviderFailure(FailureKind.CONNECTION, "the stream was cut before its end")


def failure(kind: FailureKind, *, status: int | None = None, retry_after_s: float | None = None) -> ProviderFailure:
    """Give a failure in the words of the failures' table, with the HTTP status where there was one."""
    told = FAILURE_RULES[kind].told
    detail = told if status is None else f"{told} (HTTP {status})"
    return ProviderFailure(kind, detail, status=status, retry_after_s=retry_after_s)


# What a status means where the body says nothing better.
STATUS_KINDS: Mapping[int, FailureKind] = MappingProxyType(
    {
        400: FailureKind.INVALID_REQUEST,
        401: FailureKind.AUTHENTICATION,
        402: FailureKind.BILLING,
        403: FailureKind.AUTHENTICATION,
        404: FailureKind.MODEL_NOT_FOUND,
        408: FailureKind.SERVER,
        409: FailureKind.SERVER,
        410: FailureKind.MODEL_NOT_FOUND,
        413: FailureKind.CONTEXT_LENGTH,
        425: FailureKind.SERVER,
        429: FailureKind.RATE_LIMIT,
        498: FailureKind.OVERLOAD,  # Groq: flex capacity exceeded
        499: FailureKind.SERVER,
        503: FailureKind.OVERLOAD,
        529: FailureKind.OVERLOAD,
    }
)

# Words that servers use as an error's `code` or `type`, lower-case. Generic ones, which a status or a message tells
# better, are not here.
ERROR_WORDS: Mapping[str, FailureKind] = MappingProxyType(
    {
        "context_length_exceeded": FailureKind.CONTEXT_LENGTH,
        "string_above_max_length": FailureKind.CONTEXT_LENGTH,
        "exceed_context_size_error": FailureKind.CONTEXT_LENGTH,
        "request_too_large": FailureKind.CONTEXT_LENGTH,
        "content_policy_violation": FailureKind.CONTENT_REFUSED,
        "content_filter": FailureKind.CONTENT_REFUSED,
        "moderation_blocked": FailureKind.CONTENT_REFUSED,
        "invalid_prompt": FailureKind.CONTENT_REFUSED,
        "insufficient_quota": FailureKind.BILLING,
        "insufficient_balance": FailureKind.BILLING,
        "billing_error": FailureKind.BILLING,
        "billing_not_active": FailureKind.BILLING,
        "billing_hard_limit_reached": FailureKind.BILLING,
        "invalid_api_key": FailureKind.AUTHENTICATION,
        "account_deactivated": FailureKind.AUTHENTICATION,
        "authentication_error": FailureKind.AUTHENTICATION,
        "permission_error": FailureKind.AUTHENTICATION,
        "permission_denied": FailureKind.AUTHENTICATION,
        "model_not_found": FailureKind.MODEL_NOT_FOUND,
        "model_decommissioned": FailureKind.MODEL_NOT_FOUND,
        "model_terms_required": FailureKind.MODEL_NOT_FOUND,
        "not_found_error": FailureKind.MODEL_NOT_FOUND,
        "notfounderror": FailureKind.MODEL_NOT_FOUND,
        "rate_limit_exceeded": FailureKind.RATE_LIMIT,
        "rate_limit_error": FailureKind.RATE_LIMIT,
        "tokens": FailureKind.RATE_LIMIT,
        "requests": FailureKind.RATE_LIMIT,
        "slow_down": FailureKind.OVERLOAD,
        "overloaded": FailureKind.OVERLOAD,
        "overloaded_error": FailureKind.OVERLOAD,
        "engine_overloaded": FailureKind.OVERLOAD,
        "capacity_exceeded": FailureKind.OVERLOAD,
        "service_unavailable": FailureKind.OVERLOAD,
        "unavailable_error": FailureKind.OVERLOAD,
        "timeout_error": FailureKind.SERVER,
        "server_error": FailureKind.SERVER,
        "internal_error": FailureKind.SERVER,
        "internal_server_error": FailureKind.SERVER,
        "api_error": FailureKind.SERVER,
        # Groq: the model itself wrote JSON or a tool call that does not fit, which another try may do better.
        "json_validate_failed": FailureKind.MALFORMED,
        "tool_use_failed": FailureKind.MALFORMED,
    }
)

# Servers without such words (vLLM, DeepSeek, older llama.cpp) say it in the message only.
_MESSAGES: tuple[tuple[re.Pattern[str], FailureKind], ...] = (
    (
        re.compile(
            r"context (?:length|window|size)|maximum (?:context|input|prompt|sequence)|(?:prompt|input) is too long"
            r"|too many (?:input )?tokens|reduce the length|exceeds? the (?:model|available context)",
            re.IGNORECASE,
        ),
        FailureKind.CONTEXT_LENGTH,
    ),
    (
        re.compile(r"content (?:policy|management policy|exists risk|filter)", re.IGNORECASE),
        FailureKind.CONTENT_REFUSED,
    ),
    (re.compile(r"credit balance|insufficient (?:balance|credit|funds|quota)", re.IGNORECASE), FailureKind.BILLING),
    (
        re.compile(r"(?:invalid|incorrect) api key|api key (?:is )?(?:not valid|invalid)", re.IGNORECASE),
        FailureKind.AUTHENTICATION,
    ),
    (
        re.compile(
            r"\bmodel (?:[`'\"][^`'\"]{1,200}[`'\"],? )?(?:does not exist|not exist|not found|has been decommissioned)",
            re.IGNORECASE,
        ),
        FailureKind.MODEL_NOT_FOUND,
    ),
    (re.compile(r"overloaded", re.IGNORECASE), FailureKind.OVERLOAD),
)

_SCANNED = 2000
"""How much of an error's message is looked at, characters."""


def classify(status: int | None, words: Iterable[str], message: str) -> FailureKind:
    """Tell what kind of failure an error answer is.

    Args:
        status: of the response; None, or 200, for an error inside a stream.
        words: the error's `code` and `type`, the more telling first.
        message: the provider's sentence; only looked at.
    """
    # 1. Too large is too large, whatever it is called (Groq calls it a rate limit, which no wait would help).
    if status == 413:
        return FailureKind.CONTEXT_LENGTH
    # 2. A telling word.
    for word in words:
        kind = ERROR_WORDS.get(word.lower())
        # "server_error" says less than a 503 does.
        if kind is not None and (kind is not FailureKind.SERVER or status in (None, 200)):
            return kind
    # 3. A status that leaves no choice.
    if status is not None and status not in (200, 400, 403, 404, 422, 500):
        return _by_status(status)
    # 4. A telling message, 5. the status.
    for pattern, kind in _MESSAGES:
        if pattern.search(message, 0, _SCANNED):
            return kind
    if status is None or status == 200:
        return FailureKind.SERVER
    return _by_status(status)


def _by_status(status: int) -> FailureKind:
    kind = STATUS_KINDS.get(status)
    if kind is None:
        kind = FailureKind.SERVER if status >= 500 else FailureKind.INVALID_REQUEST
    return kind


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Give how long the provider asks to wait, seconds from 0; None when it does not say.

    Looked at in this order: `retry-after-ms`, `retry-after` (seconds or a date, which is read against the response's
    own `date`, so that two clocks do not matter), and the reset of the limit that is used up, `x-ratelimit-reset-…`.

    Args:
        headers: of the response.
        now: seconds since the epoch, for a date without a `date` header.
    """
    if (wait := _number(headers.get("retry-after-ms", ""))) is not None:
        return wait / 1000
    text = headers.get("retry-after", "").strip()
    if text:
        wait = _number(text)
        if wait is None and (moment := _date(text)) is not None:
            wait = max(0.0, moment - (_date(headers.get("date", "")) or now))
        if wait is not None:
            return wait
    for limit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{limit}", "").strip() == "0":
            return _duration(headers.get(f"x-ratelimit-reset-{limit}", ""))
    return _duration(headers.get("x-ratelimit-reset-tokens", ""))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def _duration(text: str) -> float | None:
    """Read OpenAI's and Groq's `6m0s`, `120ms`, `7.66s`; a bare number is seconds."""
    text = text.strip()
    if (plain := _number(text)) is not None:
        return plain
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    days, hours, minutes, seconds, milliseconds = (float(group or 0) for group in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
