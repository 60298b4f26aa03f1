"""Who may speak to the HTTP port.

Rules, on loopback too, or a web page could read what it should not, and spend the user's money (design 13):

1. `Host` must be an address, `localhost`, or a configured name. A page whose author controls a name can have that name lead
   here (DNS rebinding), and its requests would look like our own page's; an address leads nowhere else, so that a page which
   was loaded from one came from here.
2. `Origin`, which browsers send with every request that may change something, must be ours or a configured one.
   `Sec-Fetch-Site` says the same where a browser sends no `Origin`; following a link to us is allowed.
3. What is posted must be JSON or gRPC-Web: a plain form of another site needs no permission, and must have no effect.
4. Only configured origins are given permission to read (CORS). Keys travel in `authorization`, never in cookies, so no
   credentials are allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from gearshift.server.web.openai.errors import plain_failure

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_POSTED = ("application/json", "application/grpc-web")
_LOOKING = ("GET", "HEAD", "OPTIONS")
_FOREIGN = ("cross-site", "same-site")
_OTHER_HOST = "this service does not answer to that Host: server.http_allowed_hosts names those that it does"
_OTHER_SITE = "other sites may not call: server.http_allowed_origins names those that may"
_OTHER_TYPE = "send application/json or application/grpc-web+proto"
_ASKED_S: Final = 7200
"""How long a browser may keep a permission; none keeps it longer."""
_HEADERS = (
    "authorization",
    "baggage",
    "content-type",
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-grpc-web",
    "x-user-agent",
)
"""What other origins may send, besides what begins as `_OWN` says."""
_OWN = ("gearshift-", "openai-", "x-stainless-")
"""Headers of ours, and of the official clients of OpenAI's API."""
_EXPOSED = (
    "grpc-message, grpc-status, grpc-status-details-bin, retry-after, retry-after-ms, x-request-id, x-should-retry, "
    "x-gearshift-attempts, x-gearshift-cached, x-gearshift-cost-usd, x-gearshift-model, x-gearshift-outcome, "
    "x-gearshift-position, x-gearshift-provider"
)


def guarded(hosts: tuple[str, ...], origins: Collection[str] = frozenset()) -> Middleware:
    """Give what turns strangers away before anything is served.

    Args:
        hosts: names that `Host` may have besides localhost and addresses.
        origins: other sites whose pages may call, such as `https://chat.example.com`.
    """
    names = tuple(name.lower() for name in hosts)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers, method = request.headers, request.method
        host = headers.getall("Host", ())
        if len(host) != 1 or not is_own(host[0], names):
            return _refused(request, 421, "misdirected", _OTHER_HOST)
        origin = headers.get("Origin")
        if origin is not None:
            if origin in origins:
                if method == "OPTIONS" and "Access-Control-Request-Method" in headers:
                    return _permission(request)
            elif origin.partition("://")[2] != host[0]:
                return _refused(request, 403, "forbidden_origin", _OTHER_SITE)
        elif headers.get("Sec-Fetch-Site") in _FOREIGN and not _follows_a_link(request):
            return _refused(request, 403, "forbidden_origin", _OTHER_SITE)
        if method not in _LOOKING and request.match_info.http_exception is None:
            said = headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if said != _POSTED[0] and not said.startswith(_POSTED[1]):
                return _refused(request, 415, "unsupported_content_type", _OTHER_TYPE)
        return await handler(request)

    return checked


def _refused(request: web.Request, status: int, code: str, told: str) -> web.Response:
    """Turn a request away; under OpenAI's paths in the form that its clients read."""
    if request.path.startswith("/v1/"):
        body = plain_failure(status, code, told).body()
        return web.Response(status=status, body=body, content_type="application/json")
    return web.Response(status=status, text=f"{told}\n")


def told_origins(origins: Collection[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Give what tells browsers, with each response, which of `origins` may read it."""

    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "gearshift"
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if not origins:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = str(origin)
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    return tell


def is_own(asked: str, hosts: tuple[str, ...]) -> bool:
    """Tell whether a Host header names this machine: an address, localhost, or one of `hosts`, in small letters."""
    name = asked.rpartition(":")[0] if asked.rpartition(":")[2].isdecimal() else asked
    name = name.strip("[]").lower()
    if name == "localhost" or name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _follows_a_link(request: web.Request) -> bool:
    """Tell whether a person goes to a page of ours from another site's; not into a frame of it."""
    headers = request.headers
    is_page = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return is_page and request.method in ("GET", "HEAD")


def _permission(request: web.Request) -> web.Response:
    """Answer a browser that asks whether an allowed origin's page may call."""
    asked = request.headers.get("Access-Control-Request-Headers", "").lower().split(",")
    own = sorted(name for each in asked if (name := each.strip()).startswith(_OWN) and _is_name(name))
    given = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": ", ".join((*_HEADERS, *own)),
        "Access-Control-Max-Age": str(_ASKED_S),
    }
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        given["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=given)


def _is_name(name: str) -> bool:
    return len(name) <= 64 and name.replace("-", "").isalnum() and name.isascii()
