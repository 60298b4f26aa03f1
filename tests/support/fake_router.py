"""A real grpc.aio server on loopback that plays what a test scripts.

A method that has no script gives a plain answer. What was asked is kept in `requests`, oldest first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from gearshift.clients import digest
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2, task_pb2

ROUTER = "gearshift.v1.RouterService"
OPS = "gearshift.v1.OpsService"
PROMPT_KEY = "prompt-1"

Context = grpc.aio.ServicerContext[Any, Any]
Script = Callable[[Any, Context], Awaitable[Any]]
"""A coroutine function; of a unary method it returns the response, of a streaming one it writes to the context."""

_UNARY: dict[str, tuple[str, type[Message]]] = {
    "Route": (ROUTER, router_pb2.RouteRequest),
    "Embed": (ROUTER, router_pb2.EmbedRequest),
    "Explain": (ROUTER, router_pb2.ExplainRequest),
    "PutPrompt": (ROUTER, router_pb2.PutPromptRequest),
    "DeletePrompt": (ROUTER, router_pb2.DeletePromptRequest),
    "ReportOutcome": (ROUTER, router_pb2.ReportOutcomeRequest),
    "GetStatus": (OPS, ops_pb2.GetStatusRequest),
    "ListChains": (OPS, ops_pb2.ListChainsRequest),
    "ListStages": (OPS, ops_pb2.ListStagesRequest),
    "ListCacheEntries": (OPS, ops_pb2.ListCacheEntriesRequest),
    "PurgeCache": (OPS, ops_pb2.PurgeCacheRequest),
    "GetCostReport": (OPS, ops_pb2.GetCostReportRequest),
    "ListAttempts": (OPS, ops_pb2.ListAttemptsRequest),
    "GetTraffic": (OPS, ops_pb2.GetTrafficRequest),
    "Reload": (OPS, ops_pb2.ReloadRequest),
}
_STREAMING: dict[str, tuple[str, type[Message]]] = {
    "StreamRoute": (ROUTER, router_pb2.StreamRouteRequest),
    "WatchAttempts": (OPS, ops_pb2.WatchAttemptsRequest),
}


class FakeRouter:
    """What the server will do, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.timeouts: list[float | None] = []
        self.cancelled = anyio.Event()
        self.scripts: dict[str, Script] = {
            "Route": _route,
            "StreamRoute": _stream_route,
            "Embed": _embed,
            "Explain": _explain,
            "PutPrompt": _returns(router_pb2.PutPromptResponse(key=PROMPT_KEY, ttl_seconds=3600)),
            "DeletePrompt": _returns(router_pb2.DeletePromptResponse(deleted=True)),
            "ReportOutcome": _returns(router_pb2.ReportOutcomeResponse()),
            "GetStatus": _returns(STATUS),
            "ListChains": _returns(ops_pb2.ListChainsResponse(chains=[CHAIN])),
            "ListStages": _returns(ops_pb2.ListStagesResponse(stages=[STAGE_STATUS])),
            "ListCacheEntries": _returns(CACHE),
            "PurgeCache": _returns(ops_pb2.PurgeCacheResponse(purged=3)),
            "GetCostReport": _returns(COSTS),
            "ListAttempts": _returns(ops_pb2.ListAttemptsResponse(next_page_token="page-2")),
            "GetTraffic": _returns(ops_pb2.GetTrafficResponse(step_seconds=60)),
            "Reload": _returns(ops_pb2.ReloadResponse(changed=True, config_revision="abc123")),
            "WatchAttempts": _watch_attempts,
        }

    async def play(self, method: str, request: Any, context: Context) -> Any:
        """Note the request and run its script."""
        self.requests.append(request)
        sent = context.invocation_metadata() or ()
        self.metadata.append({str(key): str(value) for key, value in sent})
        self.timeouts.append(context.time_remaining())
        try:
            return await self.scripts[method](request, context)
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        except grpc.aio.BaseError:  # a write to a client that has gone
            self.cancelled.set()
            return None


@asynccontextmanager
async def running_fake_router(
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncGenerator[tuple[FakeRouter, str]]:
    """Give a router and its address; open it in the test, not in a fixture."""
    router = FakeRouter()
    server = grpc.aio.server()
    for service in (ROUTER, OPS):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, _handlers(router, service)),))
    port = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    await server.start()
    try:
        yield router, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def _handlers(router: FakeRouter, service: str) -> dict[str, Any]:
    def unary(method: str, request_type: type[Message]) -> Any:
        async def handle(request: Any, context: Context) -> Any:
            return await router.play(method, request, context)

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request_type.FromString, response_serializer=_serialize
        )

    def streaming(method: str, request_type: type[Message]) -> Any:
        async def handle(request: Any, context: Context) -> None:
            await router.play(method, request, context)

        return grpc.unary_stream_rpc_method_handler(
            handle, request_deserializer=request_type.FromString, response_serializer=_serialize
        )

    handlers = {name: unary(name, kind) for name, (home, kind) in _UNARY.items() if home == service}
    return handlers | {name: streaming(name, kind) for name, (home, kind) in _STREAMING.items() if home == service}


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


async def fail(
    context: Context,
    code: grpc.StatusCode,
    message: str = "it failed",
    *,
    reason: str = "",
    retry_after: float | None = None,
    pushback_ms: int | None = None,
    details: Sequence[Message] = (),
) -> None:
    """End the call with a status and its google.rpc details, as the real server does."""
    packed: list[Message] = list(details)
    if reason:
        packed.append(error_details_pb2.ErrorInfo(reason=reason, domain="gearshift", metadata={"task": "t"}))
    if retry_after is not None:
        delay = duration_pb2.Duration(seconds=int(retry_after), nanos=round(retry_after % 1 * 1e9))
        packed.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in packed:
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        status.details.append(wrapped)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(pushback_ms)))
    await context.abort(code, message, tuple(trailers))


def stream_of(*batches: Sequence[stream_pb2.Event]) -> Script:
    """Give a script that writes one message for each batch of events."""

    async def script(_: Any, context: Context) -> None:
        for batch in batches:
            await context.write(router_pb2.StreamRouteResponse(events=batch))

    return script


def started(request_id: str = "r-1") -> stream_pb2.Event:
    return stream_pb2.Event(
        started=stream_pb2.Started(
            request_id=request_id,
            resolution=RESOLUTION,
            plan=[WEAK, STRONG],
            checkpoints=stream_pb2.CHECKPOINT_POLICY_NONE,
            checkpoints_reason="the mode is regenerate",
        )
    )


def attempt(number: int, stage: answer_pb2.StageRef | None = None) -> stream_pb2.Event:
    return stream_pb2.Event(
        attempt=stream_pb2.AttemptStarted(
            number=number,
            stage=stage or WEAK,
            role=answer_pb2.ATTEMPT_ROLE_ANSWER,
            cause=answer_pb2.ATTEMPT_CAUSE_FIRST if number == 1 else answer_pb2.ATTEMPT_CAUSE_FALLBACK,
        )
    )


def delta(number: int, text: str = "", *, reasoning: str = "") -> stream_pb2.Event:
    parts = [stream_pb2.DeltaPart(text=text)] if text else []
    parts += [stream_pb2.DeltaPart(reasoning=reasoning)] if reasoning else []
    return stream_pb2.Event(delta=stream_pb2.Delta(number=number, parts=parts))


def fragment(number: int, index: int, arguments: str, *, call_id: str = "", name: str = "") -> stream_pb2.Event:
    piece = stream_pb2.ToolCallFragment(index=index, id=call_id, name=name, arguments=arguments)
    return stream_pb2.Event(delta=stream_pb2.Delta(number=number, parts=[stream_pb2.DeltaPart(tool_call=piece)]))


def checkpoint(through: int) -> stream_pb2.Event:
    return stream_pb2.Event(checkpoint=stream_pb2.Checkpoint(through=through))


def retract(after: int, reason: str = "the connection broke") -> stream_pb2.Event:
    return stream_pb2.Event(retract=stream_pb2.Retract(after=after, reason=reason))


def switch(reason: str = "the connection broke") -> stream_pb2.Event:
    return stream_pb2.Event(
        switch=stream_pb2.Switch(from_stage=WEAK, to_stage=STRONG, mode=call_pb2.SWITCH_MODE_REGENERATE, reason=reason)
    )


def completed(
    text: str,
    *,
    outcome: answer_pb2.Outcome.ValueType = answer_pb2.OUTCOME_ACCEPTED,
    tool_calls: Sequence[call_pb2.ToolCall] = (),
    prompt_key: str = "",
) -> stream_pb2.Event:
    completion = completion_of(text, outcome=outcome, tool_calls=tool_calls, prompt_key=prompt_key)
    return stream_pb2.Event(completed=stream_pb2.Completed(completion=completion, tool_calls=tool_calls))


def completion_of(
    text: str,
    *,
    outcome: answer_pb2.Outcome.ValueType = answer_pb2.OUTCOME_ACCEPTED,
    tool_calls: Sequence[call_pb2.ToolCall] = (),
    prompt_key: str = "",
) -> answer_pb2.Completion:
    """Give a completion with two attempts: one failed, one served."""
    usage = answer_pb2.Usage(input_tokens=120, output_tokens=30, source=answer_pb2.USAGE_SOURCE_REPORTED)
    verdict = answer_pb2.Verdict(gate="confidence", result=answer_pb2.VERDICT_RESULT_PASS, confidence=0.91)
    return answer_pb2.Completion(
        outcome=outcome,
        served_by=STRONG,
        finish_reason=answer_pb2.FINISH_REASON_STOP,
        confidence=0.91,
        verdicts=[verdict],
        attempts=[
            answer_pb2.Attempt(
                number=1,
                stage=WEAK,
                role=answer_pb2.ATTEMPT_ROLE_ANSWER,
                cause=answer_pb2.ATTEMPT_CAUSE_FIRST,
                outcome=answer_pb2.ATTEMPT_OUTCOME_FAILED,
                failure=answer_pb2.FAILURE_KIND_CONNECTION,
                detail="nothing listens on 127.0.0.1:9",
                total_ms=3.0,
                cost_usd="0",
            ),
            answer_pb2.Attempt(
                number=2,
                stage=STRONG,
                role=answer_pb2.ATTEMPT_ROLE_ANSWER,
                cause=answer_pb2.ATTEMPT_CAUSE_FALLBACK,
                outcome=answer_pb2.ATTEMPT_OUTCOME_ACCEPTED,
                verdicts=[verdict],
                usage=usage,
                cost_usd="0.00012",
                first_token_ms=80.0,
                total_ms=310.5,
            ),
        ],
        skipped=[answer_pb2.SkippedStage(stage=BLIND, reason="feature", detail="the model does not see images")],
        usage_served=usage,
        usage_total=usage,
        cost=answer_pb2.Cost(
            total_usd="0.00012", served_usd="0.00012", strongest_usd="0.0021", strongest_model="claude-opus-5-5"
        ),
        digest=digest(text, tool_calls),
        total_ms=315.0,
        prompt_key=prompt_key,
        notes=["temperature was dropped: the model does not take it"],
    )


WEAK = answer_pb2.StageRef(position=0, provider="embedded", model="gemma3-270m", capability=task_pb2.COMPLEXITY_LOW)
STRONG = answer_pb2.StageRef(
    position=1, provider="anthropic", model="claude-haiku-5-5", capability=task_pb2.COMPLEXITY_MEDIUM
)
BLIND = answer_pb2.StageRef(position=2, provider="ollama", model="llama", capability=task_pb2.COMPLEXITY_LOW)
RESOLUTION = task_pb2.Resolution(
    task_id="email-triage",
    declared=True,
    type=task_pb2.TASK_TYPE_CLASSIFY,
    type_source=task_pb2.SOURCE_OUTPUT,
    type_confidence=1.0,
    complexity=task_pb2.COMPLEXITY_LOW,
    complexity_source=task_pb2.SOURCE_DEFAULT,
    sensitivity=task_pb2.SENSITIVITY_INTERNAL,
    sensitivity_source=task_pb2.SOURCE_DEFAULT,
    tenant="default",
)
STATUS = ops_pb2.GetStatusResponse(
    version="0.1.0",
    config_revision="abc123",
    calls_in_flight=2,
    calls_ended=40,
    warnings=["listening beyond loopback without TLS"],
    embedded=ops_pb2.EmbeddedStatus(state="ready", pid=77, resident_bytes=390 << 20),
)
CHAIN = ops_pb2.ChainStatus(name="cheap", stages=[WEAK, STRONG], order="written", task_ids=["email-triage"])
STAGE_STATUS = ops_pb2.StageStatus(
    provider="anthropic",
    account="main",
    model="claude-haiku-5-5",
    breaker=ops_pb2.BREAKER_STATE_OPEN,
    probe_in_seconds=12.5,
    breaker_reason="5 faults in a row",
    buckets=[ops_pb2.BucketStatus(unit="tokens", capacity=100_000, level=62_000, refill_per_second=1_000)],
    attempts=100,
    failures=7,
    accepted=90,
    poor=3,
    first_token_ms=120.0,
    total_ms=900.0,
)
CACHE = ops_pb2.ListCacheEntriesResponse(
    entries=[
        ops_pb2.CacheEntry(
            cache="prompt",
            key=PROMPT_KEY,
            tenant="default",
            task_id="email-triage",
            bytes=4096,
            hits=12,
            age_seconds=90,
            expires_in_seconds=3510,
        )
    ],
    stats=[ops_pb2.CacheStats(cache="prompt", entries=1, bytes=4096, hits=12, misses=3)],
)
COSTS = ops_pb2.GetCostReportResponse(
    rows=[
        ops_pb2.CostRow(
            keys=["email-triage"], calls=40, attempts=52, failed=5, poor=7, cost_usd="0.42", strongest_usd="3.10"
        )
    ],
    total=ops_pb2.CostRow(calls=40, attempts=52, failed=5, poor=7, cost_usd="0.42", strongest_usd="3.10"),
    pending=2,
)


def _returns(response: Message) -> Script:
    async def script(_: Any, __: Context) -> Message:
        return response

    return script


async def _route(request: router_pb2.RouteRequest, _: Context) -> router_pb2.RouteResponse:
    """Answer with the prompt, and give a key for a long system prompt."""
    key = PROMPT_KEY if len(request.call.system.text) > 500 or request.call.system.key == PROMPT_KEY else ""
    answer = answer_pb2.Answer(
        request_id=request.call.request_id or "r-1",
        text=request.call.prompt,
        resolution=RESOLUTION,
        completion=completion_of(request.call.prompt, prompt_key=key),
    )
    return router_pb2.RouteResponse(answer=answer)


async def _stream_route(request: router_pb2.StreamRouteRequest, context: Context) -> None:
    """Stream the prompt word by word."""
    key = PROMPT_KEY if len(request.call.system.text) > 500 or request.call.system.key == PROMPT_KEY else ""
    words = request.call.prompt.split(" ")
    await context.write(router_pb2.StreamRouteResponse(events=[started(), attempt(1)]))
    for number, word in enumerate(words, 1):
        text = word if number == 1 else f" {word}"
        await context.write(router_pb2.StreamRouteResponse(events=[delta(number, text)]))
    await context.write(router_pb2.StreamRouteResponse(events=[completed(request.call.prompt, prompt_key=key)]))


async def _embed(request: router_pb2.EmbedRequest, _: Context) -> router_pb2.EmbedResponse:
    """Give each text the vector of its length and one."""
    return router_pb2.EmbedResponse(
        request_id="r-1",
        embeddings=[router_pb2.Embedding(values=[float(len(text)), 1.0]) for text in request.inputs],
        dimensions=2,
        vector_space="fake-2",
        resolution=RESOLUTION,
        completion=completion_of(""),
    )


async def _explain(_: router_pb2.ExplainRequest, __: Context) -> router_pb2.ExplainResponse:
    return router_pb2.ExplainResponse(
        resolution=RESOLUTION,
        chain="cheap",
        stages=[
            router_pb2.ExplainedStage(
                stage=WEAK, expected_cost_usd="0", planned=True, detail="cheapest", breaker="closed"
            ),
            router_pb2.ExplainedStage(
                stage=BLIND, planned=False, reason="feature", detail="the model does not see images", breaker="open"
            ),
        ],
        estimated_input_tokens=20,
        estimated_output_tokens=512,
        policy={"min_confidence": "0.85"},
        checkpoints=stream_pb2.CHECKPOINT_POLICY_NONE,
        checkpoints_reason="the mode is regenerate",
    )


async def _watch_attempts(_: ops_pb2.WatchAttemptsRequest, context: Context) -> None:
    """Send one attempt and stay."""
    ended = completion_of("").attempts[0]
    await context.write(
        ops_pb2.WatchAttemptsResponse(
            request_id="r-1",
            task_id="email-triage",
            tenant="default",
            task_type=task_pb2.TASK_TYPE_CLASSIFY,
            attempt=ended,
        )
    )
    await anyio.sleep_forever()
