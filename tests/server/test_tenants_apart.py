"""What one tenant has, tried by another: prompts, caches, request ids, costs, trails and outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable

import grpc
import grpc.aio

from gearshift.core.config.model import AccessConfig, KeyConfig, TenantConfig
from gearshift.v1 import call_pb2, ops_pb2, router_pb2
from tests.support.blueprints import stage
from tests.support.running_server import RunningServer, failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says

KEYS = {name: f"gs_{name}_" + f"{number:02x}" * 32 for number, name in enumerate(("acme", "beta", "ops"))}


def access(**acme: object) -> AccessConfig:
    return AccessConfig(
        keys=tuple(
            KeyConfig(
                id=name,
                sha256=hashlib.sha256(key.encode()).hexdigest(),
                tenant="default" if name == "ops" else name,
                role="ops" if name == "ops" else "caller",
            )
            for name, key in KEYS.items()
        ),
        tenants={"acme": TenantConfig(**acme), "beta": TenantConfig()},  # type: ignore[arg-type]
    )


def of(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {KEYS[name]}"),)


async def code_of(answering: Awaitable[object]) -> str:
    try:
        await answering
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {failure_of(error).reason}"
    return "OK"


async def report(server: RunningServer, name: str, tenant: str = "") -> ops_pb2.GetCostReportResponse:
    await server.app.ledger.flush()
    return await server.ops.GetCostReport(ops_pb2.GetCostReportRequest(tenant=tenant), metadata=of(name))


async def test_prompts_are_read_and_deleted_by_their_tenant_only() -> None:
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), access=access()), providers=providers) as server:
        put = router_pb2.PutPromptRequest(task_id="greet", text="You are careful. " * 50)
        key = (await server.router.PutPrompt(put, metadata=of("acme"))).key
        call = plain_call(system=call_pb2.SystemPrompt(key=key))
        assert await code_of(server.route(call, metadata=of("acme"))) == "OK"
        assert await code_of(server.route(call, metadata=of("beta"))) == "FAILED_PRECONDITION PROMPT_NOT_CACHED"
        # Not even an operator's key reads it by calling.
        assert await code_of(server.route(call, metadata=of("ops"))) == "FAILED_PRECONDITION PROMPT_NOT_CACHED"
        delete = router_pb2.DeletePromptRequest(task_id="greet", key=key)
        assert not (await server.router.DeletePrompt(delete, metadata=of("beta"))).deleted
        assert await code_of(server.route(call, metadata=of("acme"))) == "OK"
        # Whether another tenant stored the same text is not to be told from its key.
        assert (await server.router.PutPrompt(put, metadata=of("beta"))).key != key


async def test_request_ids_are_their_tenants_own() -> None:
    provider = ScriptedProvider([says("for the first"), says("for the second")])
    async with running_server(of_stages(stage(0), access=access()), providers={"p0": provider}) as server:
        call = plain_call(request_id="one-and-the-same")
        first = (await server.route(call, metadata=of("acme"))).answer
        second = (await server.route(call, metadata=of("beta"))).answer
        again = (await server.route(call, metadata=of("acme"))).answer
        assert len(provider.calls) == 2
        assert (first.resolution.tenant, second.resolution.tenant) == ("acme", "beta")
        assert first.text == again.text == "for the first" and second.text == "for the second"


async def test_costs_caches_and_trails_of_others_are_refused() -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), access=access()), providers={"p0": provider}) as server:
        assert await code_of(server.route(plain_call(), metadata=of("acme"))) == "OK"
        for tenant in ("", "acme", "beta"):
            ops = server.ops
            chosen = ops_pb2.CacheFilter(tenant=tenant)
            tried: list[Awaitable[object]] = [
                ops.GetCostReport(ops_pb2.GetCostReportRequest(tenant=tenant), metadata=of("beta")),
                ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest(filter=chosen), metadata=of("beta")),
                ops.PurgeCache(ops_pb2.PurgeCacheRequest(filter=chosen, all=True), metadata=of("beta")),
                ops.WatchAttempts(ops_pb2.WatchAttemptsRequest(tenant=tenant), metadata=of("beta")).read(),
            ]
            assert [await code_of(each) for each in tried] == ["PERMISSION_DENIED FORBIDDEN"] * 4
        # An operator sees all of it, and one tenant's share of it.
        assert (await report(server, "ops")).total.attempts == 1
        assert (await report(server, "ops", "acme")).total.attempts == 1
        assert (await report(server, "ops", "beta")).total.attempts == 0


async def test_tenant_is_served_by_its_providers_only() -> None:
    providers = {name: ScriptedProvider([says(f"by {name}")] * 3) for name in ("p0", "p1")}
    config = of_stages(stage(0), stage(1), access=access(providers=("p1",)))
    async with running_server(config, providers=providers) as server:
        assert (await server.route(plain_call(), metadata=of("beta"))).answer.text == "by p0"
        assert (await server.route(plain_call(), metadata=of("acme"))).answer.text == "by p1"
        # What the caller asks for can only be less.
        call = plain_call(policy=call_pb2.Policy(allowed_providers=["p0"]))
        assert await code_of(server.route(call, metadata=of("acme"))) == "FAILED_PRECONDITION NO_STAGE"
        call = plain_call(policy=call_pb2.Policy(allowed_providers=["p0", "p1"]))
        assert (await server.route(call, metadata=of("acme"))).answer.text == "by p1"


async def test_tenant_cannot_be_chosen_by_the_caller() -> None:
    provider = ScriptedProvider([says("hi")])
    claims = (("tenant", "beta"), ("x-tenant", "beta"), ("gearshift-tenant", "beta"))
    async with running_server(of_stages(stage(0), access=access()), providers={"p0": provider}) as server:
        answer = (await server.route(plain_call(), metadata=(*of("acme"), *claims))).answer
        assert answer.resolution.tenant == "acme"
        # Of two keys the first counts, whatever the second would allow.
        both = (*of("acme"), *of("ops"))
        assert await code_of(server.ops.GetStatus(ops_pb2.GetStatusRequest(), metadata=both)) != "OK"
