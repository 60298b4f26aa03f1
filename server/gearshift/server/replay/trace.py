"""The calls of a workload, read from a file.

Rules: three formats, told apart by the first line, gzip where the name ends in `.gz`: JSON lines (all that a call can have),
CSV with `t_s,in_tok,out_tok` (lengths alone), and the CSV of `gearshift costs export`. A line that is wrong is an error with
its number: half a workload would be replayed as if it were all of it. Order does not matter; the earliest comes first.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from gearshift.core.sizing.trace import FIELDS, TraceError, read_trace

_Tokens = Annotated[int, Meta(ge=0, le=10_000_000)]
_Milliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]
_Name = Annotated[str, Meta(min_length=1, max_length=128)]

EXPORT_FIELDS: Final = (
    "started_at", "request_id", "task_id", "task_type", "provider", "model", "outcome", "input_tokens", "output_tokens",
    "first_token_ms", "total_ms", "served",
)  # fmt: skip
"""The columns that are read of an exported ledger."""
EVEN_S: Final = 0.05
"""Between two calls whose times nobody knows."""


class Recorded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model answered to a call, as far as it is known.

    Args:
        text: the answer; None makes one up of `output_tokens`.
        correct: how right it is, 0 to 1 or a truth; None is unknown.
        input_tokens / output_tokens: as they were billed; None counts the texts.
        first_token_ms / latency_ms: until its first token, and in all; None is as the plan says.
        cost_usd: what was paid for it; beside the ledger's, never instead.
    """

    text: str | None = None
    correct: Annotated[float, Meta(ge=0, le=1)] | bool | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    first_token_ms: _Milliseconds | None = None
    latency_ms: _Milliseconds | None = None
    cost_usd: Decimal | None = None


class Call(Struct, frozen=True, kw_only=True):
    """One call.

    Args:
        at: seconds from the first.
        task: its id; `type` is the word of its task type, empty leaves it to the service.
        prompt: empty makes one up of `input_tokens`.
        labels / schema: what the answer must look like.
        expected: the right answer, where it can be told by comparison: a text, a label, or a document.
        answers: by `provider/model`, or by the model alone.
    """

    at: float
    task: str
    type: str = ""
    prompt: str = ""
    system: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    max_tokens: int | None = None
    labels: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    expected: Any = None
    answers: Mapping[str, Recorded] = {}


class _Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at_s: float | None = None
    t_s: float | None = None
    task: _Name | None = None
    type: str = ""
    prompt: str = ""
    system: str = ""
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    in_tok: _Tokens | None = None
    out_tok: _Tokens | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    labels: tuple[_Name, ...] = ()
    schema: dict[str, Any] | None = None
    expected: Any = None
    answers: dict[str, Recorded] = {}
    id: str = ""
    note: str = ""


_LINES = msgspec.json.Decoder(_Line)
_TYPES: Final = ("classify", "extract", "generate", "reason", "embed")


def read_calls(path: Path, task: str = "generate") -> list[Call]:
    """Read a workload.

    Args:
        task: of calls that name none.

    Raises:
        TraceError: a line is wrong, or there is none.
        OSError: the file cannot be read.
    """
    with _opened(path) as text:
        try:
            head = next((line for line in text if line.strip()), "")
            if head.lstrip().startswith("{"):
                return _sorted(path, _of_lines(path, head, text, task))
            names = [name.strip() for name in next(csv.reader([head]), list[str]())]
            if all(name in names for name in EXPORT_FIELDS):
                return _sorted(path, _of_export(path, names, text))
        except UnicodeDecodeError as error:
            raise TraceError(f"{path}: is no UTF-8 text ({error.reason})") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TraceError(f"{path}: is no whole gzip file ({error})") from error
        except csv.Error as error:
            raise TraceError(f"{path}: {error}") from error
    if not all(name in names for name in FIELDS):
        raise TraceError(
            f"{path}:1: is no trace: JSON lines such as {_EXAMPLE}, CSV that begins with {','.join(FIELDS)}, or an export of "
            "`gearshift costs`"
        )
    kind = task if task in _TYPES else ""
    return [
        Call(at=each.at, task=task, type=kind, input_tokens=each.input_tokens, output_tokens=each.output_tokens)
        for each in read_trace(path)
    ]


_EXAMPLE: Final = '{"at_s": 0.5, "task": "reason", "prompt": "..."}'


@contextmanager
def _opened(path: Path) -> Generator[IO[str]]:
    """Give a text file, unpacked where it is packed."""
    with (
        path.open("rb") as raw,
        gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else nullcontext(raw) as content,
        io.TextIOWrapper(content, "utf-8-sig", newline="") as text,
    ):
        yield text


def _sorted(path: Path, calls: Iterable[Call]) -> list[Call]:
    found = sorted(calls, key=lambda call: call.at)
    if not found:
        raise TraceError(f"{path}: has no calls")
    first = found[0].at
    return [msgspec.structs.replace(call, at=call.at - first) for call in found]


def _of_lines(path: Path, head: str, rest: Iterable[str], task: str) -> Iterator[Call]:
    latest = -EVEN_S
    for number, text in enumerate((head, *rest), 1):
        if not text.strip():
            continue
        try:
            line = _LINES.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise TraceError(f"{path}:{number}: {error}; a line is like {_EXAMPLE}") from error
        at = next((each for each in (line.at_s, line.t_s) if each is not None), latest + EVEN_S)
        if not math.isfinite(at):
            raise TraceError(f"{path}:{number}: at_s must be seconds")
        latest = at
        yield _call(path, number, line, at, task)


def _call(path: Path, number: int, line: _Line, at: float, task: str) -> Call:
    named = line.task or task
    kind = line.type or (named if named in _TYPES else "")
    if kind and kind not in _TYPES:
        raise TraceError(f"{path}:{number}: type must be one of {', '.join(_TYPES)}, not `{kind}`")
    given = line.input_tokens if line.input_tokens is not None else line.in_tok
    made = line.output_tokens if line.output_tokens is not None else line.out_tok
    if not line.prompt and given is None:
        raise TraceError(f"{path}:{number}: needs a `prompt`, or `input_tokens` to make one up")
    if line.labels and line.schema is not None:
        raise TraceError(f"{path}:{number}: an answer has `labels` or a `schema`, not both")
    return Call(
        at=at,
        task=named,
        type=kind,
        prompt=line.prompt,
        system=line.system,
        input_tokens=given,
        output_tokens=made,
        max_tokens=line.max_tokens,
        labels=line.labels,
        schema=line.schema,
        expected=line.expected,
        answers=line.answers,
    )


class _Attempt(Struct, frozen=True, kw_only=True):
    """What is read of a row of an exported ledger."""

    started_at: float
    task: str
    type: str
    model: str
    answered: bool
    served: bool
    recorded: Recorded


def _of_export(path: Path, names: Sequence[str], rows: Iterable[str]) -> Iterator[Call]:
    """Give a call for each request of a ledger; each model's answer has the length and the time of its last attempt."""
    requests: dict[str, list[_Attempt]] = {}
    reader = csv.DictReader(rows, names)
    try:
        for row in reader:
            if not row["request_id"]:
                raise ValueError("has no request_id")
            requests.setdefault(row["request_id"], []).append(_attempt(row))
    except UnicodeDecodeError:
        raise
    except (csv.Error, TypeError, ValueError) as error:
        raise TraceError(f"{path}:{reader.line_num + 1}: {error}") from error
    for attempts in requests.values():
        yield _exported(attempts)


def _attempt(row: Mapping[str, str | None]) -> _Attempt:
    return _Attempt(
        started_at=datetime.fromisoformat(row["started_at"] or "").timestamp(),
        task=row["task_id"] or "unnamed",
        type=row["task_type"] or "",
        model=f"{row['provider']}/{row['model']}",
        answered=row["outcome"] in ("accepted", "poor"),
        served=row["served"] == "true",
        recorded=Recorded(
            input_tokens=_whole(row["input_tokens"]),
            output_tokens=_whole(row["output_tokens"]),
            first_token_ms=_ms(row["first_token_ms"]),
            latency_ms=_ms(row["total_ms"]),
        ),
    )


def _exported(attempts: Sequence[_Attempt]) -> Call:
    first = attempts[0]
    measured = next((each for each in attempts if each.served), max(attempts, key=_output)).recorded
    return Call(
        at=min(each.started_at for each in attempts),
        task=first.task,
        type=first.type,
        input_tokens=measured.input_tokens or 0,
        output_tokens=measured.output_tokens or None,
        answers={each.model: each.recorded for each in attempts if each.answered},
    )


def _output(attempt: _Attempt) -> int:
    return attempt.recorded.output_tokens or 0


def _whole(text: str | None) -> int | None:
    return int(text) if text else None


def _ms(text: str | None) -> float | None:
    return float(text) if text else None
