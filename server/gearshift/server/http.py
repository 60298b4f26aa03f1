"""The HTTP port: metrics and health.

Rules: `Host` must be this machine's name or address and `Origin` must not be another site's, also on loopback, or a web
page could read what it should not (design 13). GET only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from gearshift.core.errors import ConfigError
from gearshift.server.metrics import CONTENT_TYPE, Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http_port(
    host: str,
    port: int,
    metrics: Metrics | None,
    is_serving: Callable[[], bool],
    allowed_hosts: tuple[str, ...] = (),
    whole: Callable[[], Awaitable[bytes]] | None = None,
    *,
    reuse_port: bool = False,
) -> AsyncGenerator[int]:
    """Serve metrics and health while the block runs; gives the port.

    Args:
        whole: gives the metrics of all processes that share the port; unset, those of this one.
        reuse_port: several processes listen on it.

    Raises:
        ConfigError: the port is in use.
    """

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_own(request.host, (host, *allowed_hosts)):
            return web.Response(status=421, text="this service does not answer to that Host\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return web.Response(status=403, text="other sites may not read this\n")
        return await handler(request)

    async def show_metrics(_request: web.Request) -> web.Response:
        if metrics is None:
            return web.Response(status=404, text="telemetry.export_metrics is none\n")
        body = metrics.exposition() if whole is None else await whole()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def show_health(_request: web.Request) -> web.Response:
        return web.Response(text="SERVING\n") if is_serving() else web.Response(status=503, text="NOT_SERVING\n")

    application = web.Application(middlewares=[checked])
    application.router.add_get("/metrics", show_metrics)
    application.router.add_get("/healthz", show_health)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                [f"server.http_port: cannot listen on {host}:{port} ({error.strerror}); choose another, or http: false"]
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _is_own(asked: str, hosts: tuple[str, ...]) -> bool:
    """Tell whether a Host header names this machine: an address, localhost, or a configured name."""
    name = asked.rpartition(":")[0] if asked.rpartition(":")[2].isdecimal() else asked
    name = name.strip("[]").lower()
    if name == "localhost" or name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
