"""A collector of OpenTelemetry's: its published gRPC services, keeping what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc.aio
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_STEP_S = 0.02


class Collector:
    """What has come so far."""

    def __init__(self) -> None:
        self.port = 0
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.resources: list[dict[str, Any]] = []
        self.metadata: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait_for_spans(self, count: int) -> list[Span]:
        """Give the spans, once there are so many; the enclosing deadline bounds the wait."""
        while len(self.spans) < count:
            await anyio.sleep(_STEP_S)
        return self.spans


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._collector.metadata.append(dict(context.invocation_metadata()))
        for each in request.resource_spans:
            self._collector.resources.append(attributes(each.resource.attributes))
            for scope in each.scope_spans:
                self._collector.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: Any
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        for each in request.resource_metrics:
            for scope in each.scope_metrics:
                self._collector.metrics.extend(scope.metrics)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@asynccontextmanager
async def running_collector() -> AsyncGenerator[Collector]:
    """Run one on a free port of loopback."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(collector), server)  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector), server)  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
    collector.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)


def attributes(pairs: Any) -> dict[str, Any]:
    """Give attributes as a dictionary."""
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [getattr(each, str(each.WhichOneof("value"))) for each in value.array_value.values]
    return getattr(value, str(kind))
