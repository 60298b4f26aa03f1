"""Who may call what: keys, tenants, roles."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable

import grpc
import grpc.aio
import pytest

from gearshift.core.config.model import AccessConfig, KeyConfig, LimitsConfig, TenantConfig
from gearshift.core.errors import AccessError, ForbiddenError
from gearshift.server.access import OPEN, Access, Caller, require_ops
from gearshift.v1 import ops_pb2, ops_pb2_grpc, router_pb2, task_pb2
from tests.support.blueprints import stage
from tests.support.running_server import failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says

CALLER_KEY = "gs_app_" + "1f" * 32
OPS_KEY = "gs_ops-1_" + "2e" * 32


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYS = AccessConfig(
    keys=(
        KeyConfig(id="app", sha256=digest(CALLER_KEY), tenant="acme"),
        KeyConfig(id="ops-1", sha256=digest(OPS_KEY), tenant="default", role="ops"),
    ),
    tenants={
        "acme": TenantConfig(
            tasks=("greet", "search"), clearance="internal", limits=LimitsConfig(requests_per_minute=2)
        )
    },
)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def test_without_keys_everybody_is_the_default_tenant_with_every_role() -> None:
    access = Access(AccessConfig())
    assert access.is_open
    assert access.caller(None) == access.caller(bearer("whatever")) == OPEN == Caller(tenant="default", ops=True)


def test_key_names_its_tenant_and_role() -> None:
    access = Access(KEYS)
    assert not access.is_open
    assert access.caller(bearer(CALLER_KEY)) == Caller(tenant="acme", ops=False)
    assert access.caller(bearer(OPS_KEY)) == Caller(tenant="default", ops=True)


@pytest.mark.parametrize("value", ["bearer {}", "BEARER {}", "Bearer   {} "])
def test_scheme_is_read_whatever_its_case(value: str) -> None:
    assert Access(KEYS).caller((("authorization", value.format(CALLER_KEY)),)).tenant == "acme"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        (),
        (("authorization", "Basic abc"),),
        (("authorization", CALLER_KEY),),
        (("x-api-key", CALLER_KEY),),
        (("authorization", b"Bearer x"),),
    ],
)
def test_missing_key_is_asked_for(metadata: tuple[tuple[str, str | bytes], ...] | None) -> None:
    with pytest.raises(AccessError, match="send the metadata `authorization: Bearer <key>`"):
        Access(KEYS).caller(metadata)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "gs__",
        "gs_app_",
        "app",
        CALLER_KEY[:-1],
        CALLER_KEY + "0",
        CALLER_KEY.replace("app", "ops-1"),
        digest(CALLER_KEY),
        "gs_app_" + digest(CALLER_KEY),
    ],
)
def test_wrong_key_is_unknown_and_not_repeated(key: str) -> None:
    with pytest.raises(AccessError) as caught:
        Access(KEYS).caller(bearer(key))
    assert str(caught.value) == "this key is unknown"


def test_ops_needs_its_role() -> None:
    require_ops(OPEN)
    with pytest.raises(ForbiddenError, match="a key with the role ops"):
        require_ops(Caller(tenant="acme", ops=False))


async def code_of(answering: Awaitable[object]) -> str:
    try:
        await answering
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {failure_of(error).reason}"
    return "OK"


async def test_every_method_needs_a_key_and_every_ops_method_its_role(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = ScriptedProvider([says("hello")])
    methods = {each.name for each in ops_pb2.DESCRIPTOR.services_by_name["OpsService"].methods}
    async with running_server(of_stages(stage(0), access=KEYS), providers={"p0": provider}) as server:
        watch = server.ops.WatchAttempts(ops_pb2.WatchAttemptsRequest(), metadata=bearer(CALLER_KEY))
        assert await code_of(watch.read()) == "PERMISSION_DENIED FORBIDDEN"
        for name in sorted(methods - {"WatchAttempts"}):
            method = getattr(server.ops, name)
            request = getattr(ops_pb2, f"{name}Request")
            assert await code_of(method(request())) == "UNAUTHENTICATED UNAUTHENTICATED"
            assert await code_of(method(request(), metadata=bearer(CALLER_KEY))) == "PERMISSION_DENIED FORBIDDEN"
        for name in sorted(methods - {"WatchAttempts", "PurgeCache", "Reload"}):
            method = getattr(server.ops, name)
            assert await code_of(method(getattr(ops_pb2, f"{name}Request")(), metadata=bearer(OPS_KEY))) == "OK"
        for method in router_pb2.DESCRIPTOR.services_by_name["RouterService"].methods:
            request = getattr(router_pb2, method.input_type.name)()
            call = getattr(server.router, method.name)(request)
            answering = call.read() if method.server_streaming else call
            assert await code_of(answering) == "UNAUTHENTICATED UNAUTHENTICATED"
        answer = await server.route(plain_call(), metadata=bearer(CALLER_KEY))
        assert answer.answer.resolution.tenant == "acme"
        assert isinstance(server.ops, ops_pb2_grpc.OpsServiceStub)
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert CALLER_KEY not in told and OPS_KEY not in told
    assert CALLER_KEY[-20:] not in told


async def test_tenant_is_held_to_its_tasks_clearance_and_limits() -> None:
    provider = ScriptedProvider([says("hello")])
    async with running_server(of_stages(stage(0), access=KEYS), providers={"p0": provider}) as server:
        key = bearer(CALLER_KEY)
        assert await code_of(server.route(plain_call(task_id="other"), metadata=key)) == "PERMISSION_DENIED FORBIDDEN"
        restricted = plain_call()
        restricted.task.sensitivity = task_pb2.SENSITIVITY_RESTRICTED
        assert await code_of(server.route(restricted, metadata=key)) == "PERMISSION_DENIED FORBIDDEN"
        assert await code_of(server.route(plain_call(), metadata=key)) == "OK"
        assert await code_of(server.route(plain_call(), metadata=key)) == "OK"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(), metadata=key, timeout=0.5)
        failed = failure_of(caught.value)
        assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert failed.retry_after_s is not None and 0 < failed.retry_after_s <= 60
        # Its limit is its own.
        assert await code_of(server.route(plain_call(), metadata=bearer(OPS_KEY))) == "OK"
    assert len(provider.calls) == 3


async def test_prompts_are_out_of_other_tenants_reach() -> None:
    provider = ScriptedProvider([says("hello")])
    text = "You are careful. " * 50
    async with running_server(of_stages(stage(0), access=KEYS), providers={"p0": provider}) as server:
        put = router_pb2.PutPromptRequest(task_id="greet", text=text)
        stored = await server.router.PutPrompt(put, metadata=bearer(CALLER_KEY))
        call = plain_call()
        call.system.key = stored.key
        assert await code_of(server.route(call, metadata=bearer(CALLER_KEY))) == "OK"
        assert await code_of(server.route(call, metadata=bearer(OPS_KEY))) == "FAILED_PRECONDITION PROMPT_NOT_CACHED"
        delete = router_pb2.DeletePromptRequest(task_id="greet", key=stored.key)
        assert not (await server.router.DeletePrompt(delete, metadata=bearer(OPS_KEY))).deleted
        assert (await server.router.DeletePrompt(delete, metadata=bearer(CALLER_KEY))).deleted
