"""Metrics and health over HTTP.

Rules: metrics tell what tenants and tasks spend, so where there are keys they are for operators, unless the configuration
opens them. Health says one word and is anybody's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gearshift.core.errors import AccessError, ForbiddenError
from gearshift.server.access import Access, require_ops
from gearshift.server.metrics import CONTENT_TYPE, Metrics
from gearshift.server.refusals import Refusals
from gearshift.server.web.connection import key_of, peer_of


def monitoring_routes(
    metrics: Metrics | None,
    is_serving: Callable[[], bool],
    access: Callable[[], Access],
    refusals: Refusals,
    whole: Callable[[], Awaitable[bytes]] | None = None,
) -> list[web.RouteDef]:
    """Give `/metrics` and `/healthz`.

    Args:
        access: gives the keys in force.
        refusals: told of calls without a right key.
        whole: gives the metrics of all processes that share the port; unset, those of this one.
    """

    async def show_metrics(request: web.Request) -> web.Response:
        if metrics is None:
            return web.Response(status=404, text="telemetry.export_metrics is none\n")
        if (refused := _refused(access(), refusals, request)) is not None:
            return refused
        body = metrics.exposition() if whole is None else await whole()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def show_health(_request: web.Request) -> web.Response:
        return web.Response(text="SERVING\n") if is_serving() else web.Response(status=503, text="NOT_SERVING\n")

    return [web.get("/metrics", show_metrics), web.get("/healthz", show_health)]


def _refused(keys: Access, refusals: Refusals, request: web.Request) -> web.Response | None:
    """Give what is answered to whom may not see metrics; None to others."""
    if keys.is_open or keys.config.open_metrics:
        return None
    try:
        require_ops(keys.caller(key_of(request)))
    except AccessError as error:
        refusals.note(peer_of(request), error)
        return web.Response(status=401, text=f"{error.message}\n", headers={"WWW-Authenticate": "Bearer"})
    except ForbiddenError as error:
        return web.Response(status=403, text=f"{error.message}\n")
    return None
