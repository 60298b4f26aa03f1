"""Structured logs: one JSON line an event, on standard error.

Rules: no prompt, answer or key in any line; a restricted task's audit line is written before its call. Where
`telemetry.log_chain_position` is on, every call has one line with chain position, provider, tokens and cost. Calls' lines
are made and written together, at most 100 ms after the calls have ended: one by one, each would touch code that the
requests between have pushed out of the core's cache, and cost a system call. Every other line is written at once, after
those that wait.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TextIO

import msgspec

from gearshift.core.answer import Completion, StageRef
from gearshift.core.observer import CallContext, Observer
from gearshift.core.words import Sensitivity

_calls = logging.getLogger("gearshift.calls")
_audit = logging.getLogger("gearshift.audit")

_LONGEST_WAIT_S = 0.1
_MOST_WAITING = 256


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; `extra={"fields": {...}}` adds fields."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._clock = ""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        fields: dict[str, object] = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        return self.line(record.created, record.levelname.lower(), record.name, record.getMessage(), fields)

    def line(self, at: float, level: str, logger: str, message: str, fields: dict[str, object]) -> str:
        """Give a line; `at`: seconds since the epoch."""
        second = int(at)
        if second != self._second:
            # Spelled once a second, not once a line.
            self._second, self._clock = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        clock = f"{self._clock}.{int((at - second) * 1000):03d}Z"
        shown = {"time": clock, "level": level, "logger": logger, "message": message, **fields}
        return msgspec.json.encode(shown, enc_hook=str).decode()


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream, also lines that never were a record: one call's line is made for every call."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines = JsonFormatter()
        self.setFormatter(self._lines)
        self._waiting: deque[Callable[[JsonFormatter], str]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def write_soon(self, line: Callable[[JsonFormatter], str]) -> None:
        """Write a line within 100 ms; `line` makes it then. Outside of a running loop it is written at once."""
        self._waiting.append(line)
        if len(self._waiting) >= _MOST_WAITING:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT_S, self._due)
            except RuntimeError:
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line, after those that wait."""
        self._write_waiting()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits; called at the process's end too."""
        self._write_waiting()
        with suppress(OSError, ValueError):
            super().flush()

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def _write_waiting(self) -> None:
        """Write what waits; like `emit`, it raises nothing."""
        if not self._waiting:
            return
        try:
            with self.lock or nullcontext():
                lines = [self._waiting.popleft()(self._lines) + self.terminator for _ in range(len(self._waiting))]
                self.stream.write("".join(lines))
        except (OSError, ValueError):  # standard error is full, or closed: no reason to fail a call
            return


def configure_logs(level: str) -> None:
    """Send all logs to standard error as JSON lines, from `level` on."""
    # What no line shows need not be looked up for each: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(sys.stderr)]
    root.setLevel(level.upper())


class CallLog(Observer):
    """Logs every call."""

    def __init__(self, *, log_calls: bool) -> None:
        self._log_calls = log_calls and _calls.isEnabledFor(logging.INFO)
        handlers = [*_calls.handlers, *logging.getLogger().handlers]
        only = handlers[0] if len(handlers) == 1 else None
        # A record for every call costs more than its line; it is made only where another handler wants it.
        self._handler = only if isinstance(only, JsonHandler) else None

    def attempt_starting(self, context: CallContext, stage: StageRef, account: str) -> None:
        """Write the audit line of a restricted task."""
        resolution = context.resolution
        if resolution.sensitivity is Sensitivity.RESTRICTED:
            _audit.warning(
                "restricted call",
                extra={
                    "fields": {
                        "request_id": context.request_id,
                        "tenant": resolution.tenant,
                        "task": resolution.task_id,
                        "provider": stage.provider,
                        "account": account,
                        "model": stage.model,
                    }
                },
            )

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Write a call's line."""
        if not self._log_calls:
            return
        if self._handler is not None:
            at = time.time()
            self._handler.write_soon(
                lambda lines: lines.line(at, "info", _calls.name, "call", _fields(context, completion, error))
            )
        else:
            _calls.info("call", extra={"fields": _fields(context, completion, error)})


def _fields(context: CallContext, completion: Completion, error: str) -> dict[str, object]:
    resolution, served, usage = context.resolution, completion.served_by, completion.usage_total
    total = completion.cost.total_usd
    return {
        "request_id": context.request_id,
        "tenant": resolution.tenant,
        "task": resolution.task_id,
        "task_type": resolution.type.word,
        "chain": context.chain,
        "outcome": completion.outcome.word,
        "error": error,
        "chain_position": served.position if served is not None else None,
        "provider": served.provider if served is not None else None,
        "model": served.model if served is not None else None,
        "attempts": len(completion.attempts),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": None if total is None else f"{total:f}",
        "confidence": completion.confidence,
        "total_ms": round(completion.total_ms, 3),
        "stream": context.stream,
        "cached": completion.cached,
    }
