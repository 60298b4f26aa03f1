"""What holds for a whole answer holds for a stream and for vectors: the same refusals, by code, reason and details."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from msgspec import structs

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import AccessConfig, CachingConfig, KeyConfig, LimitsConfig, TasksConfig, TenantConfig
from gearshift.core.words import FailureKind
from gearshift.v1 import answer_pb2, call_pb2, router_pb2, task_pb2
from tests.support.blueprints import stage
from tests.support.changed import changed
from tests.support.running_server import BOUND_S, Failed, RunningServer, failure_of, of_stages, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says

KEY = "gs_acme_" + "01" * 32
_METADATA = (("authorization", f"Bearer {KEY}"),)
_RESTRICTED = task_pb2.SENSITIVITY_RESTRICTED

Ask = Callable[..., Awaitable[Any]]


async def route(server: RunningServer, text: str = "hello", timeout: float = BOUND_S, **task: Any) -> Any:  # noqa: ASYNC109
    request = router_pb2.RouteRequest(call=_call(text, task))
    return (await server.router.Route(request, timeout=timeout, metadata=_METADATA)).answer


async def stream(server: RunningServer, text: str = "hello", timeout: float = BOUND_S, **task: Any) -> Any:  # noqa: ASYNC109
    request = router_pb2.StreamRouteRequest(call=_call(text, task))
    events = [
        event
        async for message in server.router.StreamRoute(request, timeout=timeout, metadata=_METADATA)
        for event in message.events
    ]
    return events[-1].completed


async def embed(server: RunningServer, text: str = "hello", timeout: float = BOUND_S, **task: Any) -> Any:  # noqa: ASYNC109
    request_id = task.pop("request_id", "")
    request = router_pb2.EmbedRequest(task=_task(task), inputs=[text], request_id=request_id)
    return await server.router.Embed(request, timeout=timeout, metadata=_METADATA)


def _task(fields: dict[str, Any]) -> task_pb2.Task:
    chosen: dict[str, Any] = {"id": "greet"} | fields
    return task_pb2.Task(**chosen)


def _call(text: str, task: dict[str, Any]) -> call_pb2.Call:
    request_id = task.pop("request_id", "")
    if "type" not in task:
        task["type"] = task_pb2.TASK_TYPE_GENERATE
    return call_pb2.Call(task=_task(task), prompt=text, request_id=request_id)


every_method = pytest.mark.parametrize("ask", [route, stream, embed])


def house(*, strict: bool = False, tenant: TenantConfig | None = None, limits: LimitsConfig | None = None) -> Blueprint:
    """One stage, the tenant `acme` with a key, and no cache of vectors, so that whoever is not refused goes upstream."""
    sha256 = hashlib.sha256(KEY.encode()).hexdigest()
    access = AccessConfig(
        keys=(KeyConfig(id="acme", sha256=sha256, tenant="acme"),), tenants={"acme": tenant or TenantConfig()}
    )
    made = of_stages(stage(0, limits=limits), access=access)
    config = structs.replace(
        made.config, tasks=TasksConfig(strict=strict), caching=CachingConfig(embedding_max_bytes=0)
    )
    return changed(made, config=config)


def answers(*scripts: Script) -> ScriptedProvider:
    return ScriptedProvider(list(scripts or (says("hi"),)))


async def failure(asking: Awaitable[Any]) -> Failed:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asking
    return failure_of(caught.value)


def attempts_of(error: grpc.aio.AioRpcError) -> list[answer_pb2.Attempt]:
    """Give the attempts among a status's details."""
    raw = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    found: list[answer_pb2.Attempt] = []
    for packed in status_pb2.Status.FromString(raw).details:
        attempt = answer_pb2.Attempt()
        if packed.Unpack(attempt):
            found.append(attempt)
    return found


@every_method
async def test_a_task_that_is_not_declared_is_not_found_where_tasks_are_strict(ask: Ask) -> None:
    async with running_server(house(strict=True), providers={"p0": answers()}) as server:
        failed = await failure(ask(server))
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TASK")


@every_method
async def test_a_task_that_its_tenant_may_not_use_is_denied(ask: Ask) -> None:
    plan = house(tenant=TenantConfig(tasks=("other",)))
    async with running_server(plan, providers={"p0": answers()}) as server:
        failed = await failure(ask(server))
    assert (failed.code, failed.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")


@every_method
async def test_a_fault_of_the_request_names_its_field(ask: Ask) -> None:
    async with running_server(house(), providers={"p0": answers()}) as server:
        failed = await failure(ask(server, id="no id"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(failed.fields) in (["call.task.id"], ["task.id"])


@every_method
async def test_what_no_stage_may_see_goes_nowhere(ask: Ask) -> None:
    provider = answers()
    async with running_server(house(), providers={"p0": provider}) as server:
        failed = await failure(ask(server, sensitivity=_RESTRICTED))
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_STAGE")
    assert not provider.calls and not provider.embed_calls


@every_method
@pytest.mark.parametrize("of_tenant", [True, False])
async def test_a_spent_limit_says_how_long_to_wait(ask: Ask, of_tenant: bool) -> None:
    limits = LimitsConfig(requests_per_minute=1)
    plan = house(tenant=TenantConfig(limits=limits)) if of_tenant else house(limits=limits)
    async with running_server(plan, providers={"p0": answers()}) as server:
        await ask(server)
        failed = await failure(ask(server, "and again", timeout=5))
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert failed.retry_after_s is not None and failed.retry_after_s > 10
    assert failed.pushback == str(round(failed.retry_after_s * 1000))
    assert failed.quotas


@every_method
async def test_an_exhausted_chain_lists_its_attempts_and_pushes_retries_back(ask: Ask) -> None:
    async with running_server(house(), providers={"p0": answers(fails(FailureKind.SERVER))}) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server)
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED")
    assert failed.pushback == "-1"
    assert [each.failure for each in attempts_of(caught.value)] == [answer_pb2.FAILURE_KIND_SERVER]


@every_method
async def test_a_provider_that_asks_to_wait_is_told_on(ask: Ask) -> None:
    provider = answers(fails(FailureKind.RATE_LIMIT, retry_after_s=30))
    async with running_server(house(), providers={"p0": provider}) as server:
        failed = await failure(ask(server, timeout=5))
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED")
    assert failed.retry_after_s == 30
    assert failed.pushback == "30000"


@every_method
async def test_a_deadline_that_passes_is_told_as_one(ask: Ask) -> None:
    provider = answers(Script(stalls=True))
    async with running_server(house(), providers={"p0": provider}) as server:
        failed = await failure(ask(server, timeout=0.3))
    assert (failed.code, failed.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")


@every_method
async def test_a_repeated_request_id_is_one_call(ask: Ask) -> None:
    provider = answers()
    async with running_server(house(), providers={"p0": provider}) as server:
        first, again = [(await ask(server, request_id="mine")).completion for _ in range(2)]
        assert len(provider.calls) + len(provider.embed_calls) == 1
        assert first == again
        assert len(first.attempts) == 1
        failed = await failure(ask(server, "something else", request_id="mine"))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failed.fields) in (["call.request_id"], ["request_id"])
