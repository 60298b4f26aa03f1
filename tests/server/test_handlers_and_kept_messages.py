"""How services are added, and which messages are kept from call to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from gearshift.server.guard import CallGuard
from gearshift.server.handlers import handlers_of
from gearshift.server.wire import call_from_wire
from gearshift.v1 import call_pb2, router_pb2_grpc, task_pb2


class Recorded:
    """Hears what is added."""

    def __init__(self) -> None:
        self.generic: list[grpc.GenericRpcHandler] = []
        self.registered: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self.generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.registered += [f"/{service}/{method}" for method in handlers]

    def has(self, method: str) -> bool:
        details = cast("grpc.HandlerCallDetails", type("Details", (), {"method": method, "invocation_metadata": ()})())
        return any(handler.service(details) is not None for handler in self.generic)


def test_no_method_is_registered_for_itself() -> None:
    server = Recorded()
    real = cast("grpc.aio.Server", server)
    servicer = router_pb2_grpc.RouterServiceServicer()  # type: ignore[abstract] # pyright: ignore[reportAbstractUsage]
    router_pb2_grpc.add_RouterServiceServicer_to_server(servicer, CallGuard(8).over(real))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), handlers_of(real))
    assert server.registered == []
    assert len(server.generic) == 2
    assert server.has("/gearshift.v1.RouterService/Route")
    assert server.has("/gearshift.v1.RouterService/StreamRoute")
    assert server.has("/grpc.health.v1.Health/Check")


def test_equal_tasks_and_parameters_become_one_value() -> None:
    call = call_pb2.Call(
        task=task_pb2.Task(id="kept", type=task_pb2.TASK_TYPE_GENERATE),
        prompt="Hi",
        parameters=call_pb2.Parameters(max_tokens=7),
    )
    first, second = call_from_wire(call, "t", None), call_from_wire(call, "t", None)
    assert first.task is second.task
    assert first.parameters is second.parameters
    call.parameters.max_tokens = 8
    assert call_from_wire(call, "t", None).parameters.max_tokens == 8


def test_long_tasks_are_not_kept() -> None:
    call = call_pb2.Call(task=task_pb2.Task(id="x" * 1000), prompt="Hi")
    first, second = call_from_wire(call, "t", None), call_from_wire(call, "t", None)
    assert first.task == second.task
    assert first.task is not second.task
