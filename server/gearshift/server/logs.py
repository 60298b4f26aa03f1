"""Structured logs: one JSON line an event, on standard error.

Rules: no prompt, answer or key in any line; a restricted task's audit line is written before its call. Where
`telemetry.log_chain_position` is on, every call has one line with chain position, provider, tokens and cost.
"""

from __future__ import annotations

import logging
import sys
import time

import msgspec

from gearshift.core.answer import Completion, StageRef
from gearshift.core.observer import CallContext, Observer
from gearshift.core.words import Sensitivity

_calls = logging.getLogger("gearshift.calls")
_audit = logging.getLogger("gearshift.audit")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields: dict[str, object] = getattr(record, "fields", {})
        line.update(fields)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure_logs(level: str) -> None:
    """Send all logs to standard error as JSON lines, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class CallLog(Observer):
    """Logs every call."""

    def __init__(self, *, log_calls: bool) -> None:
        self._log_calls = log_calls and _calls.isEnabledFor(logging.INFO)

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
        resolution, served, usage = context.resolution, completion.served_by, completion.usage_total
        total = completion.cost.total_usd
        _calls.info(
            "call",
            extra={
                "fields": {
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
                }
            },
        )
