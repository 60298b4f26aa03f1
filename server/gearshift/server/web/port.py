"""The HTTP port itself.

Rules: it may stand no more open than the gRPC port. With TLS it has the same certificates, replaced at the same moments, and
asks for client certificates where the gRPC port does; where that one asks for them and this one has no TLS, no calls are taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from gearshift.core.config.model import ServerConfig
from gearshift.core.errors import ConfigError
from gearshift.server.certificates import Certificates
from gearshift.server.web.guarding import guarded, told_origins

_LAST_S = 1.0
"""How long a response may still take when the service has stopped; calls had their grace before."""


@asynccontextmanager
async def http_port(
    config: ServerConfig,
    routes: Iterable[web.AbstractRouteDef],
    certificates: Certificates | None = None,
    *,
    reuse_port: bool = False,
) -> AsyncGenerator[int]:
    """Serve routes while the block runs; gives the port.

    Args:
        certificates: for `server.http_tls`.
        reuse_port: several processes listen on it.

    Raises:
        ConfigError: the port is in use.
    """
    host, port = config.http_host, config.http_port
    origins = frozenset(config.http_allowed_origins)
    application = web.Application(middlewares=[guarded((host, *config.http_allowed_hosts), origins)])
    application.on_response_prepare.append(told_origins(origins))
    application.add_routes(routes)
    # A caller that leaves cancels its call at once.
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=_LAST_S
    )
    await runner.setup()
    try:
        tls = certificates.http_context() if config.http_tls and certificates is not None else None
        site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                [f"server.http_port: cannot listen on {host}:{port} ({error.strerror}); choose another, or http: false"]
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
