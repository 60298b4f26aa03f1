"""Sends traces and metrics to a collector, by OTLP over gRPC or HTTP.

Rules: the only file that imports OpenTelemetry, and only where a configuration names a collector. Sending is the SDK's, in
threads of its own, and never slows a call: what its queue cannot hold is dropped, as the SDK does. What the process's own
environment says to OpenTelemetry is not read, but for what the SDK itself takes from it.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread

from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import OtlpConfig
from gearshift.core.errors import ConfigError
from gearshift.core.observer import CallContext, Observer
from gearshift.core.tracing import CURRENT, trace_of
from gearshift.core.words import TaskType
from gearshift.server.telemetry import names
from gearshift.server.telemetry.spans import Span, error_of, spans_of
from gearshift.server.telemetry.upstreams import Upstream, Upstreams

_log = logging.getLogger(__name__)

INSTALL = "pip install 'gearshift[otel]'"
_LAST_S = 5.0
_EXPORT_S = 5.0
_SCOPE = "gearshift"
_PORTS = {"grpc": 4317, "http/protobuf": 4318}
"""Where collectors listen by default, by protocol."""

Metadata = Iterable[tuple[str, str | bytes]]


class Telemetry(Observer):
    """Traces and metrics of calls. Made by `telemetry`, which also ends it.

    Args:
        config: where they go, and how many traces are sampled.
        version: the service's.
        blueprint: gives the configuration in force.
    """

    def __init__(self, config: OtlpConfig, version: str, blueprint: Callable[[], Blueprint]) -> None:
        self._config = config
        self._blueprint = blueprint
        self._upstreams: Upstreams | None = None
        self._chance = random.Random()
        try:
            from opentelemetry.sdk.resources import Resource

            # Each process is one of its own: sums of several that went by one name would overwrite each other.
            resource = Resource(
                {
                    names.SERVICE_NAME: config.service_name,
                    names.SERVICE_VERSION: version,
                    names.SERVICE_INSTANCE: str(uuid.uuid4()),
                }
            )
            self._spans = _SpanSender(config, resource, version) if config.traces else None
            self._metrics = _MetricSender(config, resource, version) if config.metrics else None
        except ImportError as error:
            raise ConfigError([f"telemetry.otlp: OpenTelemetry is not installed: {INSTALL}"]) from error

    def begin(self, metadata: Metadata | None) -> None:
        """Say that the call that this context runs belongs to the caller's trace, or begins one."""
        parent = state = ""
        for name, value in metadata or ():
            if name == "traceparent" and isinstance(value, str):
                parent = value
            elif name == "tracestate" and isinstance(value, str):
                state = value
        CURRENT.set(trace_of(parent, state, share=self._config.sample, chance=self._chance))

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Have a call's spans and figures sent."""
        trace, upstreams = context.trace, self._known()
        if self._spans is not None and trace is not None and trace.is_sampled:
            for span in spans_of(context, trace, completion, error, time.time(), upstreams.of):
                self._spans.send(span)
        if self._metrics is not None:
            for attempt in completion.attempts:
                self._metrics.count(context, attempt, upstreams.of(attempt))

    def shut(self) -> None:
        """Send what waits, within bounds; blocks."""
        for sender in (self._spans, self._metrics):
            if sender is not None:
                sender.shut()

    def _known(self) -> Upstreams:
        blueprint = self._blueprint()
        if self._upstreams is None or self._upstreams.blueprint is not blueprint:
            self._upstreams = Upstreams(blueprint)
        return self._upstreams


class _SpanSender:
    def __init__(self, config: OtlpConfig, resource: Any, version: str) -> None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource
        self._scope = InstrumentationScope(_SCOPE, version)
        self._processor = BatchSpanProcessor(_span_exporter(config), schedule_delay_millis=config.every_s * 1000)

    def send(self, span: Span) -> None:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
        from opentelemetry.trace.status import Status, StatusCode

        state = TraceState.from_header([span.state]) if span.state else None

        def context(span_id: int, *, is_remote: bool) -> SpanContext:
            return SpanContext(span.trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED), state)

        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=context(span.span_id, is_remote=False),
                parent=context(span.parent_id, is_remote=span.is_parent_remote) if span.parent_id else None,
                resource=self._resource,
                attributes=span.attributes,
                events=[Event(each.name, each.attributes, each.at_ns) for each in span.events],
                kind=SpanKind.SERVER if span.is_server else SpanKind.CLIENT,
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
                start_time=span.began_ns,
                end_time=span.ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def shut(self) -> None:
        self._processor.shutdown()  # type: ignore[no-untyped-call]


class _MetricSender:
    def __init__(self, config: OtlpConfig, resource: Any, version: str) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(
            _metric_exporter(config), export_interval_millis=config.metrics_every_s * 1000
        )
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(_SCOPE, version)

        def times(name: str, told: str) -> Any:
            return meter.create_histogram(name, "s", told, explicit_bucket_boundaries_advisory=names.SECONDS)

        def tokens(name: str, told: str) -> Any:
            return meter.create_histogram(name, "{token}", told, explicit_bucket_boundaries_advisory=names.TOKENS)

        self._duration = times(names.DURATION, "Time of an upstream call.")
        self._first = times(names.TIME_TO_FIRST_CHUNK, "Time to a streamed answer's first chunk.")
        self._input = tokens(names.OPERATION_INPUT_TOKENS, "Input tokens of an upstream call.")
        self._output = tokens(names.OPERATION_OUTPUT_TOKENS, "Output tokens of an upstream call.")
        self._used = [
            (field, meter.create_counter(name, "{token}", "Tokens used.")) for field, name in names.USED.items()
        ]
        self._embeddings_duration = times(names.EMBEDDINGS_DURATION, "Time of an upstream call for vectors.")
        self._embeddings_input = tokens(names.EMBEDDINGS_INPUT_TOKENS, "Input tokens of an upstream call for vectors.")

    def count(self, context: CallContext, attempt: AttemptRecord, upstream: Upstream) -> None:
        embeds = context.resolution.type is TaskType.EMBED
        attributes: dict[str, str | int] = {
            names.OPERATION: names.EMBEDDINGS if embeds else names.CHAT,
            names.PROVIDER: upstream.provider,
            names.REQUEST_MODEL: upstream.model,
            names.RESPONSE_MODEL: upstream.model,
        }
        if upstream.address:
            attributes[names.SERVER_ADDRESS] = upstream.address
        if upstream.port:
            attributes[names.SERVER_PORT] = upstream.port
        error, usage, took_s = error_of(attempt), attempt.usage, attempt.total_ms / 1000
        timed = attributes | {names.ERROR_TYPE: error} if error else attributes
        if embeds:
            self._embeddings_duration.record(took_s, timed)
            if not error:
                self._embeddings_input.record(usage.input_tokens, attributes)
            return
        self._duration.record(took_s, timed)
        if context.stream and attempt.first_token_ms is not None:
            self._first.record(attempt.first_token_ms / 1000, attributes)
        if not error:
            # The conventions leave failed calls out of the histograms; the counters have all that was used.
            self._input.record(usage.input_tokens, attributes)
            self._output.record(usage.output_tokens, attributes)
        for field, counter in self._used:
            if used := getattr(usage, field):
                counter.add(used, attributes)

    def shut(self) -> None:
        self._meters.shutdown(timeout_millis=_LAST_S * 1000)


@asynccontextmanager
async def telemetry(
    config: OtlpConfig | None, version: str, blueprint: Callable[[], Blueprint]
) -> AsyncGenerator[Telemetry | None]:
    """Give what sends traces and metrics while the block runs, and after it what waits; None without a collector.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if config is None:
        yield None
        return
    made = Telemetry(config, version, blueprint)
    try:
        yield made
    finally:
        with anyio.move_on_after(_LAST_S + 1, shield=True) as scope:
            await anyio.to_thread.run_sync(made.shut, abandon_on_cancel=True)
        if scope.cancelled_caught:
            _log.warning("the collector at %s did not take the last traces", _endpoint(config))


def _span_exporter(config: OtlpConfig) -> Any:
    endpoint = _endpoint(config)
    if config.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc(
            endpoint=endpoint,
            insecure=_is_plain(endpoint),
            headers=tuple(config.headers.items()),
            timeout=_EXPORT_S,
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp(endpoint=f"{endpoint}/v1/traces", headers=dict(config.headers), timeout=_EXPORT_S)


def _metric_exporter(config: OtlpConfig) -> Any:
    endpoint = _endpoint(config)
    if config.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as OverGrpc

        return OverGrpc(
            endpoint=endpoint,
            insecure=_is_plain(endpoint),
            headers=tuple(config.headers.items()),
            timeout=_EXPORT_S,
        )
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp

    return OverHttp(endpoint=f"{endpoint}/v1/metrics", headers=dict(config.headers), timeout=_EXPORT_S)


def _endpoint(config: OtlpConfig) -> str:
    """Give where the collector is, without a slash at the end."""
    return config.endpoint.rstrip("/") or f"http://127.0.0.1:{_PORTS[config.protocol]}"


def _is_plain(endpoint: str) -> bool:
    return not endpoint.startswith("https://")
