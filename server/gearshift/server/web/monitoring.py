"""Metrics and health over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gearshift.server.metrics import CONTENT_TYPE, Metrics


def monitoring_routes(
    metrics: Metrics | None, is_serving: Callable[[], bool], whole: Callable[[], Awaitable[bytes]] | None = None
) -> list[web.RouteDef]:
    """Give `/metrics` and `/healthz`.

    Args:
        whole: gives the metrics of all processes that share the port; unset, those of this one.
    """

    async def show_metrics(_request: web.Request) -> web.Response:
        if metrics is None:
            return web.Response(status=404, text="telemetry.export_metrics is none\n")
        body = metrics.exposition() if whole is None else await whole()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def show_health(_request: web.Request) -> web.Response:
        return web.Response(text="SERVING\n") if is_serving() else web.Response(status=503, text="NOT_SERVING\n")

    return [web.get("/metrics", show_metrics), web.get("/healthz", show_health)]
