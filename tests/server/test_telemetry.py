"""OpenTelemetry: from the caller's traceparent to the provider's, and what a collector is told, over real OTLP."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import grpc.aio
import httpx
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gearshift.core.config.model import OtlpConfig
from gearshift.core.errors import ConfigError
from gearshift.server.telemetry import names
from gearshift.server.telemetry.names import provider_value
from gearshift.server.telemetry.otlp import telemetry
from gearshift.v1 import call_pb2, router_pb2, task_pb2
from tests.support.openai_bodies import openai_answer, openai_error, openai_stream, openai_vectors
from tests.support.openai_clients import HELLO, url_of
from tests.support.otlp_collector import Collector, Protocol, attributes, running_collector
from tests.support.running_server import BOUND_S, from_yaml, plain_call, running_server
from tests.support.scripted_server import Reply, ScriptedServer, scripted
from tests.support.served_config import of_openai

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLERS = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1"))
SECRET = "a word that only the prompt has"


def config(urls: Mapping[str, str], collector: Collector, more: str = "") -> str:
    otlp = (
        f"endpoint: '{collector.endpoint}', protocol: {collector.protocol}, every_s: 0.05, metrics_every_s: 0.2, "
        f"headers: {{x-team: blue}}{more}"
    )
    return of_openai(urls, more=f"telemetry: {{otlp: {{{otlp}}}}}\n")


def parents(server: ScriptedServer) -> list[str]:
    return [each.headers["traceparent"] for each in server.requests]


def by_name(spans: Sequence[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_call_is_told_from_the_callers_span_to_the_providers(protocol: Protocol) -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector(protocol) as collector,
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
    lost = attributes(failed.attributes)
    assert (lost[names.ERROR_TYPE], lost[names.FINISH_REASONS]) == ("overload", ["error"])
    told = attributes(served.attributes)
    assert told[names.OPERATION] == "chat"
    assert told[names.PROVIDER] == "openai_compatible"
    assert told[names.REQUEST_MODEL] == "m-strong"
    assert f"http://{told[names.SERVER_ADDRESS]}:{told[names.SERVER_PORT]}" == strong.url
    assert names.REQUEST_STREAM not in told
    assert told[names.FINISH_REASONS] == ["stop"]
    assert (told[names.INPUT_TOKENS], told[names.OUTPUT_TOKENS], told[names.CACHE_READ_TOKENS]) == (20, 9, 5)
    assert (told[names.CAUSE], told[names.POSITION]) == ("fallback", 1)
    assert told[names.COST] > 0
    assert [event.name for event in served.events] == [names.VERDICT_EVENT] * len(served.events) != []
    whole = attributes(own.attributes)
    assert (whole[names.ATTEMPTS], whole[names.OUTCOME], whole[names.RESPONSE_MODEL]) == (2, "accepted", "m-strong")
    assert (whole[names.RPC_SYSTEM], whole[names.RPC_STATUS]) == ("grpc", "OK")
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


async def test_calls_over_openais_api_belong_to_their_callers_trace() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(*[Reply.json(openai_answer("fine"))] * 2) as upstream,
            running_server(config({"up": upstream.url}, collector)) as server,
            # One connection for both: what the first call's caller told is not the second's.
            httpx.AsyncClient(trust_env=False) as client,
        ):
            url, body = f"{url_of(server)}/chat/completions", {"model": "gearshift", "messages": HELLO}
            for headers in ({"Traceparent": CALLERS[0][1]}, {}):
                answer = await client.post(url, json=body, headers=headers)
                assert answer.status_code == 200
            spans = await collector.wait_for_spans(4)
    first, second = parents(upstream)
    assert first.startswith(f"00-{TRACE}-") and TRACE not in second
    own = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert {span.trace_id.hex() for span in own} == {TRACE, second.split("-")[1]}
    assert [span.parent_span_id.hex() for span in own if span.trace_id.hex() == TRACE] == [PARENT]


async def test_a_span_of_the_service_is_an_error_only_by_its_own_fault() -> None:
    labels = call_pb2.OutputSpec(labels=call_pb2.LabelOutput(labels=["billing", "bug"]))
    strict = plain_call(output=labels, policy=call_pb2.Policy(require_valid=True))
    strict.task.type = task_pb2.TASK_TYPE_CLASSIFY
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(
                Reply.json(openai_error("overloaded"), status=503), Reply.json(openai_answer("neither"))
            ) as upstream,
            running_server(config({"up": upstream.url}, collector)) as server,
        ):
            for call in (plain_call(), strict):
                with pytest.raises(grpc.aio.AioRpcError):
                    await server.route(call)
            spans = [each for each in await collector.wait_for_spans(4) if each.kind == Span.SPAN_KIND_SERVER]
    ended = {attributes(each.attributes)[names.RPC_STATUS]: each.status.code for each in spans}
    assert ended == {"UNAVAILABLE": Status.STATUS_CODE_ERROR, "ABORTED": Status.STATUS_CODE_UNSET}
    assert {attributes(each.attributes)[names.ERROR_TYPE] for each in spans} == {"chain_exhausted", "not_accepted"}


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


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_metrics_have_the_conventions_names(protocol: Protocol) -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector(protocol) as collector,
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


async def test_vectors_and_failures_are_counted_where_the_conventions_want_them() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            running_collector() as collector,
            scripted(
                Reply.json(openai_error("overloaded"), status=503),
                Reply.json(openai_answer("fine")),
                Reply.json(openai_vectors([0.1, 0.2])),
            ) as upstream,
            running_server(config({"up": upstream.url}, collector, ", traces: false")) as server,
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="overloaded"):
                await server.route(plain_call())
            await server.route(plain_call())
            await server.router.Embed(router_pb2.EmbedRequest(task=task_pb2.Task(id="search"), inputs=["text"]))
    latest = {metric.name: metric for metric in collector.metrics}
    times = latest[names.DURATION].histogram.data_points
    assert sorted(attributes(each.attributes).get(names.ERROR_TYPE, "") for each in times) == ["", "overload"]
    # Failed calls are in no histogram of tokens, and vectors in none of answers.
    assert point(latest[names.OPERATION_INPUT_TOKENS]).count == 1
    assert point(latest[names.OPERATION_OUTPUT_TOKENS]).count == 1
    vectors = point(latest[names.EMBEDDINGS_DURATION])
    assert (vectors.count, attributes(vectors.attributes)[names.OPERATION]) == (1, "embeddings")
    assert point(latest[names.EMBEDDINGS_INPUT_TOKENS]).count == 1


def point(metric: Metric) -> Any:
    kind = metric.WhichOneof("data")
    (only,) = getattr(metric, str(kind)).data_points
    return only


async def test_every_process_goes_by_an_instance_of_its_own() -> None:
    with anyio.fail_after(BOUND_S):
        async with running_collector() as collector, scripted(*[Reply.json(openai_answer("fine"))] * 2) as upstream:
            for _ in range(2):
                async with running_server(config({"up": upstream.url}, collector)) as server:
                    await server.route(plain_call())
    assert len({each["service.instance.id"] for each in collector.resources}) == 2


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_that_is_away_slows_nothing_down(protocol: Protocol) -> None:
    with anyio.fail_after(BOUND_S):
        async with running_collector(protocol) as collector:
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
    ("otlp", "told"),
    [
        pytest.param("{endpoint: 'localhost:4317'}", "is no URL: write such as http://127.0.0.1:4317", id="no scheme"),
        pytest.param("{endpoint: 'https://o.example.com/otlp'}", "set protocol: http/protobuf", id="a path over gRPC"),
        pytest.param("{endpoint: 'https://u:p@o.example.com'}", "must not hold a user or password", id="a password"),
        pytest.param("{protocol: http/json}", "`grpc`, `http/protobuf`", id="another protocol"),
    ],
)
def test_an_endpoint_that_cannot_work_is_told(otlp: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_yaml(of_openai({"up": "http://127.0.0.1:9"}, more=f"telemetry: {{otlp: {otlp}}}\n"))
    assert told in str(caught.value) and "telemetry.otlp" in str(caught.value)


def test_a_port_of_the_other_protocol_is_warned_of() -> None:
    text = of_openai({"up": "http://127.0.0.1:9"}, more="telemetry: {otlp: {endpoint: 'http://127.0.0.1:4318'}}\n")
    assert any("collectors take HTTP" in warning for warning in from_yaml(text).warnings)


async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    blueprint = from_yaml(of_openai({"up": "http://127.0.0.1:9"}))
    with pytest.raises(ConfigError, match=r"gearshift\[otel\]"):
        async with telemetry(OtlpConfig(protocol="http/protobuf"), "0", lambda: blueprint):
            pass


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
