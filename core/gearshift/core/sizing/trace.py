"""A recorded workload: when requests came, and how many model tokens they read and wrote.

Rules: one request a line, as CSV with a header or as JSON objects (JSONL), gzip where the name ends in `.gz`. The fields are
`t_s` (seconds, from any beginning), `in_tok` and `out_tok`; others are passed over. A line that is wrong is an error with
its number: half a workload would be sized as if it were all of it. Order does not matter.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

FIELDS: Final = ("t_s", "in_tok", "out_tok")
_MOST_TOKENS: Final = 100_000_000
_TOLD_EVERY: Final = 4096


class TraceError(ValueError):
    """Raised when a trace cannot be read; says file, line and what is wrong with it."""


class Arrival(NamedTuple):
    """One request: when it came, seconds from the first, and the model tokens that it reads and writes."""

    at: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path, progress: Callable[[float], None] | None = None) -> list[Arrival]:
    """Read a trace, the earliest first.

    Args:
        progress: told the share that is read, 0 to 1, now and then.

    Raises:
        TraceError: a line is wrong, or there is none.
        OSError: the file cannot be read.

    """
    whole = max(1, path.stat().st_size)
    found: list[tuple[float, int, int]] = []
    is_packed = path.suffix == ".gz"
    with (
        path.open("rb") as raw,
        gzip.GzipFile(fileobj=raw) if is_packed else nullcontext(raw) as content,
        io.TextIOWrapper(content, "utf-8-sig", newline="") as text,
    ):
        try:
            for number, fields in _lines(path, text):
                found.append(_arrival(path, number, fields))
                if progress is not None and number % _TOLD_EVERY == 0:
                    progress(min(1.0, raw.tell() / whole))
        except UnicodeDecodeError as error:
            raise TraceError(f"{path}: is no UTF-8 text ({error.reason})") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TraceError(f"{path}: is no whole gzip file ({error})") from error
    if not found:
        raise TraceError(f"{path}: has no requests")
    found.sort()
    first = found[0][0]
    return [Arrival(at - first, entered, written) for at, entered, written in found]


def _lines(path: Path, text: IO[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Give each line's number and its fields."""
    head = next((line for line in text if line.strip()), "")
    if not head:
        return
    if head.lstrip().startswith("{"):
        yield 1, _object(path, 1, head)
        for number, line in enumerate(text, 2):
            if line.strip():
                yield number, _object(path, number, line)
        return
    names = [name.strip() for name in next(csv.reader([head]))]
    missing = [name for name in FIELDS if name not in names]
    if missing:
        raise TraceError(
            f"{path}:1: the header lacks {', '.join(missing)}; it begins like `t_s,in_tok,out_tok`, "
            'or each line is like {"t_s": 0.5, "in_tok": 374, "out_tok": 44}'
        )
    places = [(name, names.index(name)) for name in FIELDS]
    rows = csv.reader(text)
    try:
        for row in rows:
            if not row:
                continue
            number = rows.line_num + 1
            if len(row) < len(names):
                raise TraceError(f"{path}:{number}: has {len(row)} columns, the header {len(names)}")
            yield number, {name: row[place] for name, place in places}
    except csv.Error as error:
        raise TraceError(f"{path}:{rows.line_num + 1}: {error}") from error


_OBJECTS = msgspec.json.Decoder(dict[str, object])


def _object(path: Path, number: int, line: str) -> Mapping[str, object]:
    try:
        fields = _OBJECTS.decode(line)
    except msgspec.DecodeError as error:
        raise TraceError(f"{path}:{number}: is no JSON object: {error}") from error
    for name in FIELDS:
        if name not in fields:
            raise TraceError(f"{path}:{number}: lacks {name}; a line is like {_EXAMPLE}")
    return fields


_EXAMPLE: Final = '{"t_s": 0.5, "in_tok": 374, "out_tok": 44}'


def _arrival(path: Path, number: int, fields: Mapping[str, object]) -> tuple[float, int, int]:
    at = fields["t_s"]
    try:
        seconds = math.nan if isinstance(at, bool) else float(at)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise TraceError(f"{path}:{number}: t_s must be seconds, not `{_shown(at)}`")
    return seconds, _tokens(path, number, "in_tok", fields), _tokens(path, number, "out_tok", fields)


def _tokens(path: Path, number: int, name: str, fields: Mapping[str, object]) -> int:
    value = fields[name]
    tokens = -1
    if isinstance(value, int) and not isinstance(value, bool):
        tokens = value
    elif isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        tokens = int(value.strip()[:12])
    if not 0 <= tokens <= _MOST_TOKENS:
        raise TraceError(f"{path}:{number}: {name} must be a whole number from 0, not `{_shown(value)}`")
    return tokens


def _shown(value: object) -> str:
    return str(value)[:40]
