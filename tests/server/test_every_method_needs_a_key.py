"""Every method that the server has, found in the server itself and in the contract: none works without a key.

A method that somebody adds is called here without anybody thinking of it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pool
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gearshift.core.config.model import AccessConfig, KeyConfig, TenantConfig
from gearshift.v1 import ops_pb2, router_pb2
from tests.support.blueprints import stage
from tests.support.running_server import BOUND_S, RunningServer, failure_of, of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

CALLER, OPS = "gs_app_" + "1f" * 32, "gs_ops_" + "2e" * 32
ACCESS = AccessConfig(
    keys=(
        KeyConfig(id="app", sha256=hashlib.sha256(CALLER.encode()).hexdigest(), tenant="acme"),
        KeyConfig(id="ops", sha256=hashlib.sha256(OPS.encode()).hexdigest(), tenant="default", role="ops"),
    ),
    tenants={"acme": TenantConfig()},
)
OURS = ("gearshift.v1.RouterService", "gearshift.v1.OpsService")
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

CHANNELZ = "grpc.channelz.v1.Channelz"

Method = tuple[str, str]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[Method, Any]:
    """Give every method that is added to a server, with its handler."""
    found: dict[Method, Any] = {}
    real = grpc.method_handlers_generic_handler

    def noted(service: str, handlers: dict[str, Any]) -> Any:
        found.update({(service, name): handler for name, handler in handlers.items()})
        return real(service, handlers)

    monkeypatch.setattr(grpc, "method_handlers_generic_handler", noted)
    return found


def in_the_contract() -> set[Method]:
    pool = descriptor_pool.Default()
    services = [pool.FindServiceByName(name) for name in (*OURS, HEALTH, REFLECTION[1], CHANNELZ)]
    methods = {(each.full_name, method.name) for each in services for method in each.methods}
    return methods | {(REFLECTION[0], "ServerReflectionInfo")}


def of_access(access: AccessConfig) -> Any:
    return of_stages(stage(0), access=access)


async def ended(server: RunningServer, method: Method, handler: Any, key: str = "", body: bytes = b"") -> str:
    """Call a method with raw bytes; give its code, and `OK` where it answers or goes on."""
    path = f"/{method[0]}/{method[1]}"
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    channel: Any = server.channel
    # Without attempts nothing comes, however long one waits.
    is_watch = method[1] == "WatchAttempts"
    bound = 0.3 if is_watch else BOUND_S
    try:
        if handler.request_streaming:
            call: Any = channel.stream_stream(path)(iter([body]), metadata=metadata, timeout=BOUND_S)
            await call.read()
        elif handler.response_streaming:
            call = channel.unary_stream(path)(body, metadata=metadata, timeout=bound)
            await call.read()
            call.cancel()
        else:
            await channel.unary_unary(path)(body, metadata=metadata, timeout=BOUND_S)
    except grpc.aio.AioRpcError as error:
        if is_watch and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "OK"
        return error.code().name
    return "OK"


async def test_no_method_is_missing_from_the_table(served: dict[Method, Any]) -> None:
    async with running_server(of_access(ACCESS), providers={}):
        assert set(served) == in_the_contract()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="no key"),
        pytest.param("gs_app_" + "00" * 32, id="a wrong secret"),
        pytest.param("gs_nobody_" + "1f" * 32, id="an unknown id"),
        pytest.param("0" * 5000, id="a long one"),
    ],
)
async def test_no_method_works_without_a_right_key(served: dict[Method, Any], key: str) -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_access(ACCESS), providers={"p0": provider}) as server:
        codes = {method: await ended(server, method, handler, key) for method, handler in served.items()}
        assert {method for method, code in codes.items() if code != "UNAUTHENTICATED"} == {
            # As configured: load balancers and probes have no key.
            (HEALTH, "Check"),
            (HEALTH, "List"),
            (HEALTH, "Watch"),
        }
        assert server.app.guard.refusals.by_cause.total() == len(served) - 3
    assert provider.calls == []


async def test_no_method_of_operators_works_with_a_callers_key(served: dict[Method, Any]) -> None:
    async with running_server(of_access(ACCESS), providers={}) as server:
        for method, handler in served.items():
            if method[0] in (OURS[1], CHANNELZ):
                assert await ended(server, method, handler, CALLER) == "PERMISSION_DENIED", method
            elif method[0] == OURS[0]:
                # Let in, and told what is wrong with an empty request.
                assert await ended(server, method, handler, CALLER) == "INVALID_ARGUMENT" or method[1] == "DeletePrompt"


async def test_no_fault_is_told_before_the_key_is_checked(served: dict[Method, Any]) -> None:
    async with running_server(of_access(ACCESS), providers={}) as server:
        for name in ("Route", "GetCostReport"):
            service = OURS[0] if name == "Route" else OURS[1]
            wrong = {
                "Route": router_pb2.RouteRequest(),
                "GetCostReport": ops_pb2.GetCostReportRequest(group_by=[ops_pb2.CostGroup.ValueType(99)]),
            }[name]
            path = f"/{service}/{name}"
            channel: Any = server.channel
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(path)(wrong.SerializeToString(), timeout=BOUND_S)
            assert failure_of(caught.value).reason == "UNAUTHENTICATED"
            assert failure_of(caught.value).fields == {}


@pytest.mark.parametrize("is_open", [True, False])
async def test_health_and_reflection_are_open_as_configured(served: dict[Method, Any], is_open: bool) -> None:
    access = AccessConfig(keys=ACCESS.keys, tenants=ACCESS.tenants, open_health=is_open, open_reflection=is_open)
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    check = health_pb2.HealthCheckRequest().SerializeToString()
    async with running_server(of_access(access), providers={}) as server:
        for method, handler in served.items():
            if method[0] in (*OURS, CHANNELZ):
                continue
            body = asked if method[0] in REFLECTION else check
            assert (await ended(server, method, handler, "", body) != "UNAUTHENTICATED") is is_open, method
            code = await ended(server, method, handler, CALLER, body)
            assert code == ("UNIMPLEMENTED" if method == (HEALTH, "List") else "OK"), method


async def test_without_keys_every_service_answers(served: dict[Method, Any]) -> None:
    async with running_server(of_access(AccessConfig()), providers={}) as server:
        for method, handler in served.items():
            assert await ended(server, method, handler) != "UNAUTHENTICATED", method


async def test_channelz_shows_the_server_to_operators(served: dict[Method, Any]) -> None:
    async with running_server(of_access(ACCESS), providers={}) as server:
        metadata = (("authorization", f"Bearer {OPS}"),)
        channel: Any = server.channel
        stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
        servers = await stub.GetServers(channelz_pb2.GetServersRequest(), metadata=metadata, timeout=BOUND_S)
        sockets = await stub.GetServerSockets(
            channelz_pb2.GetServerSocketsRequest(server_id=servers.server[0].ref.server_id),
            metadata=metadata,
            timeout=BOUND_S,
        )
    assert servers.server[0].data.calls_started >= 1
    assert len(sockets.socket_ref) >= 1
