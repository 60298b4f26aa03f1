"""What gRPC-Web adds to a unary call: the same call over both ports, in turn, from one client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import grpc.aio

from bench.common.figures import Line, Part, Say, percentile
from bench.web.browser import Browser
from bench.web.house import QUICK, House
from gearshift.v1 import call_pb2, router_pb2, router_pb2_grpc, task_pb2

MOST_ADDED_MS = 1.0
_WARM = 100


async def unary(house: House, calls: int, say: Say) -> Part:
    """Measure `calls` pairs, and then the service's CPU for each kind alone."""
    request = router_pb2.RouteRequest(call=call_pb2.Call(task=task_pb2.Task(id=QUICK), prompt="hello there"))
    packed = request.SerializeToString()
    browser = Browser(house.http_port)
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{house.grpc_port}", options=options) as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)

            async def plain() -> object:
                return await stub.Route(request)

            async def web() -> object:
                return router_pb2.RouteResponse.FromString(await browser.unary("Route", packed))

            for _ in range(_WARM):
                await plain()
                await web()
            say(f"unary: {calls} pairs")
            took: dict[str, list[float]] = {"gRPC": [], "gRPC-Web": []}
            for _ in range(calls):
                took["gRPC"].append(await _timed(plain))
                took["gRPC-Web"].append(await _timed(web))
            say("unary: CPU")
            cpu = {"gRPC": await _cpu_us(house, plain, calls), "gRPC-Web": await _cpu_us(house, web, calls)}
    finally:
        await browser.aclose()
    lines = [
        Line(what=f"a unary call over {name}", cells={**_cells(each), "service's CPU, µs a call": f"{cpu[name]:.0f}"})
        for name, each in took.items()
    ]
    added = {
        share: percentile(took["gRPC-Web"], value) - percentile(took["gRPC"], value)
        for share, value in (("p50", 0.5), ("p99", 0.99))
    }
    lines.append(
        Line(
            what="**added by gRPC-Web**",
            cells={
                **{name: f"{value:+.2f}" for name, value in added.items()},
                "service's CPU, µs a call": f"{cpu['gRPC-Web'] - cpu['gRPC']:+.0f}",
            },
            most=f"p50 {MOST_ADDED_MS:g} ms",
            met=added["p50"] < MOST_ADDED_MS,
        )
    )
    note = f"{calls} calls of each kind, in turn, one at a time; ms, from the call to the decoded answer, provider and all."
    return Part(name="unary", title="What gRPC-Web adds to a unary call", lines=lines, notes=[note])


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000


async def _cpu_us(house: House, call: Callable[[], Awaitable[object]], calls: int) -> float:
    before = house.service.cpu_s()
    for _ in range(calls):
        await call()
    return (house.service.cpu_s() - before) / calls * 1e6


def _cells(took: list[float]) -> dict[str, str]:
    return {name: f"{percentile(took, share):.2f}" for name, share in (("p50", 0.5), ("p99", 0.99))}
