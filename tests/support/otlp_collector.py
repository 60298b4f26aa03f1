"""A collector of OpenTelemetry's: its published services, over gRPC or HTTP, keeping what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import grpc.aio
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Protocol = Literal["grpc", "http/protobuf"]
PREFIX = "/otlp"
"""Where the one that speaks HTTP has its paths, as hosted ones do."""

_STEP_S = 0.02
_PROTOBUF = "application/x-protobuf"


class Collector:
    """What has come so far."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.port = 0
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.resources: list[dict[str, Any]] = []
        self.metadata: list[dict[str, str]] = []
        """Of each export, names in lower case."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX if self.protocol == 'http/protobuf' else ''}"

    async def wait_for_spans(self, count: int) -> list[Span]:
        """Give the spans, once there are so many; the enclosing deadline bounds the wait."""
        while len(self.spans) < count:
            await anyio.sleep(_STEP_S)
        return self.spans

    def take_traces(
        self, request: trace_service_pb2.ExportTraceServiceRequest, metadata: Mapping[str, Any]
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep an export of spans."""
        self.metadata.append(dict(metadata))
        for each in request.resource_spans:
            self.resources.append(attributes(each.resource.attributes))
            for scope in each.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def take_metrics(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, metadata: Mapping[str, Any]
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        """Keep an export of metrics."""
        self.metadata.append(dict(metadata))
        for each in request.resource_metrics:
            self.resources.append(attributes(each.resource.attributes))
            for scope in each.scope_metrics:
                self.metrics.extend(scope.metrics)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        return self._collector.take_traces(request, dict(context.invocation_metadata()))


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: Any
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        return self._collector.take_metrics(request, dict(context.invocation_metadata()))


@asynccontextmanager
async def running_collector(protocol: Protocol = "grpc") -> AsyncGenerator[Collector]:
    """Run one on a free port of loopback."""
    collector = Collector(protocol)
    async with _over_grpc(collector) if protocol == "grpc" else _over_http(collector):
        yield collector


@asynccontextmanager
async def _over_grpc(collector: Collector) -> AsyncGenerator[None]:
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(collector), server)  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector), server)  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
    collector.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@asynccontextmanager
async def _over_http(collector: Collector) -> AsyncGenerator[None]:
    def told(request: web.Request) -> dict[str, str]:
        assert request.headers["Content-Type"] == _PROTOBUF
        return {name.lower(): value for name, value in request.headers.items()}

    async def traces(request: web.Request) -> web.Response:
        export = trace_service_pb2.ExportTraceServiceRequest.FromString(await request.read())
        answer = collector.take_traces(export, told(request))
        return web.Response(body=answer.SerializeToString(), content_type=_PROTOBUF)

    async def metrics(request: web.Request) -> web.Response:
        export = metrics_service_pb2.ExportMetricsServiceRequest.FromString(await request.read())
        answer = collector.take_metrics(export, told(request))
        return web.Response(body=answer.SerializeToString(), content_type=_PROTOBUF)

    app = web.Application()
    app.add_routes([web.post(f"{PREFIX}/v1/traces", traces), web.post(f"{PREFIX}/v1/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.port = runner.addresses[0][1]
        yield
    finally:
        await runner.cleanup()


def attributes(pairs: Any) -> dict[str, Any]:
    """Give attributes as a dictionary."""
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [getattr(each, str(each.WhichOneof("value"))) for each in value.array_value.values]
    return getattr(value, str(kind))
