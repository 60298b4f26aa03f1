"""The HTTP port itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from gearshift.core.config.model import ServerConfig
from gearshift.core.errors import ConfigError
from gearshift.server.web.guarding import guarded


@asynccontextmanager
async def http_port(
    config: ServerConfig, routes: Iterable[web.AbstractRouteDef], *, reuse_port: bool = False
) -> AsyncGenerator[int]:
    """Serve routes while the block runs; gives the port.

    Args:
        reuse_port: several processes listen on it.

    Raises:
        ConfigError: the port is in use.
    """
    host, port = config.http_host, config.http_port
    application = web.Application(middlewares=[guarded((host, *config.http_allowed_hosts))])
    application.add_routes(routes)
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
