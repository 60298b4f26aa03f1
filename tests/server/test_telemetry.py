"""OpenTelemetry: from the caller's traceparent to the provider's, and what a collector is told, over real OTLP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gearshift.server.telemetry import names
from gearshift.server.telemetry.names import provider_value
from gearshift.v1 import router_pb2, task_pb2
from tests.support.openai_bodies import openai_answer, openai_error, openai_stream, openai_vectors
from tests.support.otlp_collector import Collector, attributes, running_collector
from tests.support.running_server import BOUND_S, plain_call, running_server
from tests.support.scripted_server import Reply, ScriptedServer, scripted
from tests.support.served_config import of_openai

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLERS = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1"))
SECRET = "a word that only the prompt has"


def config(urls: Mapping[str, str], collector: Collector, more: str = "") -> str:
    otlp = f"endpoint: '{collector.endpoint}', every_s: 0.05, metrics_every_s: 0.2, headers: {{x-team: blue}}{more}"
    return of_openai(urls, more=f"telemetry: {{otlp: {{{otlp}}}}}\n")


def parents(server: ScriptedServer) -> list[str]:
    return [each.headers["traceparent"] for each in server.requests]


def by_name(spans: Sequence[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


async def test_a_call_is_told_from_the_callers_span_to_the_providers() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(Reply.json(openai_error("overloaded"), status=503)) as weak,
            scripted(Reply.json(openai_answer("fine"))) as strong,
            running_server(config({"weak": weak.url, "strong": strong.url}, collector)) as server,
        ):
            await server.route(plain_call(SECRET), metadata=CALLERS)
            spans = await collector.wait_for_spans(3)
        found = by_name(spans)
    own, failed, served = found["gearshift.v1.RouterService/Route"], found["chat m-weak"], found["chat m-strong"]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert own.parent_span_id.hex() == PARENT
    assert own.kind == Span.SPAN_KIND_SERVER
    assert failed.parent_span_id == served.parent_span_id == own.span_id
    assert failed.kind == served.kind == Span.SPAN_KIND_CLIENT
    # What the providers were told is the span of their own call.
    assert parents(weak) == [f"00-{TRACE}-{failed.span_id.hex()}-01"]
    assert parents(strong) == [f"00-{TRACE}-{served.span_id.hex()}-01"]
    assert strong.requests[0].headers["tracestate"] == "vendor=1"
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert attributes(failed.attributes)[names.ERROR_TYPE] == "overload"
    told = attributes(served.attributes)
    assert told[names.OPERATION] == "chat"
    assert told[names.PROVIDER] == "openai_compatible"
    assert told[names.REQUEST_MODEL] == "m-strong"
    assert told[names.FINISH_REASONS] == ["stop"]
    assert (told[names.INPUT_TOKENS], told[names.OUTPUT_TOKENS], told[names.CACHE_READ_TOKENS]) == (20, 9, 5)
    assert (told[names.CAUSE], told[names.POSITION]) == ("fallback", 1)
    assert told[names.COST] > 0
    assert [event.name for event in served.events] == [names.VERDICT_EVENT] * len(served.events) != []
    whole = attributes(own.attributes)
    assert (whole[names.ATTEMPTS], whole[names.OUTCOME], whole[names.RESPONSE_MODEL]) == (2, "accepted", "m-strong")
    assert own.start_time_unix_nano <= failed.start_time_unix_nano <= served.start_time_unix_nano
    assert served.end_time_unix_nano <= own.end_time_unix_nano + 5_000_000
    assert collector.resources[0]["service.name"] == "gearshift"
    assert collector.metadata[0]["x-team"] == "blue"
    assert not any(SECRET in str(span) for span in spans)


async def test_streams_and_embeddings_are_told_too() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(Reply.sse(*openai_stream(["a ", "b"])), Reply.json(openai_vectors([0.1, 0.2]))) as upstream,
            running_server(config({"up": upstream.url}, collector)) as server,
        ):
            await server.stream(plain_call(), metadata=CALLERS)
            await server.router.Embed(
                router_pb2.EmbedRequest(task=task_pb2.Task(id="search"), inputs=["text"]), metadata=CALLERS
            )
            spans = by_name(await collector.wait_for_spans(4))
    stream, embed = spans["chat m-up"], spans["embeddings e-up"]
    told = attributes(stream.attributes)
    assert told[names.REQUEST_STREAM] is True
    assert told[names.FIRST_CHUNK] > 0
    assert parents(upstream) == [f"00-{TRACE}-{each.span_id.hex()}-01" for each in (stream, embed)]
    assert {"gearshift.v1.RouterService/StreamRoute", "gearshift.v1.RouterService/Embed"} <= set(spans)


async def test_what_the_caller_does_not_sample_is_passed_on_and_not_kept() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(Reply.json(openai_answer("fine")), Reply.json(openai_answer("fine"))) as upstream,
            running_server(config({"up": upstream.url}, collector)) as server,
        ):
            await server.route(plain_call(), metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),))
            await server.route(plain_call())
            await collector.wait_for_spans(2)
        assert len(collector.spans) == 2
    unsampled, begun = parents(upstream)
    assert unsampled.startswith(f"00-{TRACE}-") and unsampled.endswith("-00")
    assert begun.endswith("-01") and TRACE not in begun
    assert {span.trace_id.hex() for span in collector.spans} == {begun.split("-")[1]}


async def test_metrics_have_the_conventions_names() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(Reply.json(openai_answer("fine")), Reply.sse(*openai_stream(["a"]))) as upstream,
            running_server(config({"up": upstream.url}, collector, ", traces: false")) as server,
        ):
            await server.route(plain_call(), metadata=CALLERS)
            await server.stream(plain_call())
        # What waited was sent when the service stopped.
        assert collector.spans == []
    latest = {metric.name: metric for metric in collector.metrics}
    duration = point(latest[names.DURATION])
    assert duration.count == 2
    assert list(duration.explicit_bounds) == list(names.SECONDS)
    assert attributes(duration.attributes)[names.REQUEST_MODEL] == "m-up"
    assert point(latest[names.TIME_TO_FIRST_CHUNK]).count == 1
    assert latest[names.DURATION].unit == "s"
    used = {name: point(latest[name]).as_int for name in names.USED.values() if name in latest}
    assert used[names.USED["input_tokens"]] == 40
    assert used[names.USED["cache_read_tokens"]] == 10
    assert latest[names.USED["output_tokens"]].sum.is_monotonic
    assert parents(upstream)[0].startswith(f"00-{TRACE}-")


def point(metric: Metric) -> Any:
    kind = metric.WhichOneof("data")
    (only,) = getattr(metric, str(kind)).data_points
    return only


async def test_a_collector_that_is_away_slows_nothing_down() -> None:
    with anyio.fail_after(BOUND_S):
        async with running_collector() as collector:
            nowhere = collector
        async with (
            scripted(*[Reply.json(openai_answer("fine"))] * 20) as upstream,
            running_server(config({"up": upstream.url}, nowhere)) as server,
        ):
            for _ in range(20):
                await server.route(plain_call(), timeout=2)


async def test_without_a_collector_providers_are_told_nothing() -> None:
    async with (
        scripted(Reply.json(openai_answer("fine"))) as upstream,
        running_server(of_openai({"up": upstream.url})) as server,
    ):
        await server.route(plain_call(), metadata=CALLERS)
    assert "traceparent" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    ("kind", "dialect", "value"),
    [
        ("anthropic", "", "anthropic"),
        ("openai", "groq", "groq"),
        ("openai", "deepseek", "deepseek"),
        ("openai", "openai", "openai"),
        ("openai", "vllm", "vllm"),
        ("openai", "compatible", "openai_compatible"),
        ("ollama", "", "ollama"),
        ("voyage", "", "voyageai"),
    ],
)
def test_providers_have_the_conventions_names(kind: str, dialect: str, value: str) -> None:
    assert provider_value(kind, dialect) == value
