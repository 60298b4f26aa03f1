"""Who may speak to the HTTP port.

Rules: `Host` must be this machine's name or address and `Origin` must not be another site's, also on loopback, or a web
page could read what it should not, and spend the user's money (design 13). A host whose name a page's author controls
would make that page's requests look like the service's own, so names must be configured.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guarded(hosts: tuple[str, ...]) -> Middleware:
    """Give what turns strangers away before anything is served.

    Args:
        hosts: names that `Host` may have besides localhost and addresses.
    """

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own(request.host, hosts):
            return web.Response(status=421, text="this service does not answer to that Host\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return web.Response(status=403, text="other sites may not read this\n")
        return await handler(request)

    return checked


def is_own(asked: str, hosts: tuple[str, ...]) -> bool:
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
