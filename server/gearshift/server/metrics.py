"""Prometheus metrics.

Rules: the only file that imports prometheus_client. Labels are bounded: task ids that nobody declared share one label,
and so do tenants that the configuration does not name. Children are looked up once and kept, since a look-up by labels
costs more than the counting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.observer import CallContext, Observer

UNDECLARED = "undeclared"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SCORES = (0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

M = TypeVar("M")


class Metrics(Observer):
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._calls = Counter(
            "gearshift_calls", "Calls that have ended.", ["task", "task_type", "outcome", "stream"], registry=registry
        )
        self._call_seconds = Histogram(
            "gearshift_call_seconds",
            "Time from a call's arrival to its end.",
            ["task_type", "stream"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._attempts = Counter(
            "gearshift_attempts",
            "Upstream calls.",
            ["provider", "model", "position", "cause", "outcome", "failure"],
            registry=registry,
        )
        self._attempt_seconds = Histogram(
            "gearshift_attempt_seconds",
            "Time of an upstream call.",
            ["provider", "model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token_seconds = Histogram(
            "gearshift_first_token_seconds",
            "Time to an attempt's first token.",
            ["provider", "model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "gearshift_tokens", "Model tokens.", ["task", "provider", "model", "kind"], registry=registry
        )
        self._cost = Counter(
            "gearshift_cost_usd",
            "What attempts cost, USD; attempts of unknown price are counted apart.",
            ["task", "provider", "model"],
            registry=registry,
        )
        self._unpriced = Counter(
            "gearshift_unpriced_attempts", "Attempts whose price is unknown.", ["provider", "model"], registry=registry
        )
        self._confidence = Histogram(
            "gearshift_gate_confidence",
            "Measured confidence of answers.",
            ["task_type", "model"],
            buckets=_SCORES,
            registry=registry,
        )
        self._verdicts = Counter("gearshift_verdicts", "Gate verdicts.", ["gate", "result"], registry=registry)
        self._children: dict[tuple[object, ...], object] = {}

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show a number that is read when the metrics are."""
        Gauge(name, description, registry=self.registry).set_function(read)

    def exposition(self) -> bytes:
        """Give the metrics as text."""
        return generate_latest(self.registry)

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Count a call and its attempts."""
        resolution = context.resolution
        task = resolution.task_id if resolution.declared else UNDECLARED
        kind, stream = resolution.type.word, "true" if context.stream else "false"
        self._child(self._calls, task, kind, error.lower() or completion.outcome.word, stream).inc()
        self._child(self._call_seconds, kind, stream).observe(completion.total_ms / 1000)
        for attempt in completion.attempts:
            self._count(attempt, task)
        for verdict in completion.verdicts:
            self._child(self._verdicts, verdict.gate, verdict.result.word).inc()
        if completion.confidence is not None and completion.served_by is not None:
            self._child(self._confidence, kind, completion.served_by.model).observe(completion.confidence)

    def _count(self, attempt: AttemptRecord, task: str) -> None:
        provider, model = attempt.stage.provider, attempt.stage.model
        failure = attempt.failure.word if attempt.failure is not None else ""
        position = str(attempt.stage.position)
        self._child(self._attempts, provider, model, position, attempt.cause.word, attempt.outcome.word, failure).inc()
        self._child(self._attempt_seconds, provider, model).observe(attempt.total_ms / 1000)
        if attempt.first_token_ms is not None:
            self._child(self._first_token_seconds, provider, model).observe(attempt.first_token_ms / 1000)
        usage = attempt.usage
        if usage.input_tokens:
            self._child(self._tokens, task, provider, model, "input").inc(usage.input_tokens)
        if usage.output_tokens:
            self._child(self._tokens, task, provider, model, "output").inc(usage.output_tokens)
        if usage.cache_read_tokens:
            self._child(self._tokens, task, provider, model, "cache_read").inc(usage.cache_read_tokens)
        if usage.cache_write_tokens:
            self._child(self._tokens, task, provider, model, "cache_write").inc(usage.cache_write_tokens)
        if attempt.cost_usd is None:
            self._child(self._unpriced, provider, model).inc()
        elif attempt.cost_usd:
            self._child(self._cost, task, provider, model).inc(float(attempt.cost_usd))

    def _child(self, metric: M, *labels: str) -> M:
        key = (id(metric), *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)  # type: ignore[attr-defined]
        return child  # type: ignore[return-value]
