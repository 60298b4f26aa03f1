"""The pages for people: a chat at `/`, the dashboard at `/ops`.

Rules: files of this package as they are, read once; nothing is made on the way and nothing is loaded from elsewhere, which the
browser is told to enforce. A page is open to everybody who reaches the port; what it shows it asks for with a key, where
keys are configured. Their sources are in `server/pages`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from aiohttp import web

_PAGES: Final = {"/": "chat.html", "/ops": "ops.html"}
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache",  # kept, and asked about: a new version of the service has new pages
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page_routes() -> list[web.RouteDef]:
    """Give the pages and what they are made of."""
    folder = files("gearshift.server.web") / "pages"
    routes = [_served(path, (folder / name).read_bytes(), name) for path, name in _PAGES.items()]
    for file in folder.iterdir():
        if not file.name.endswith(".html") and _type(file.name):
            routes.append(_served(f"/assets/{file.name}", file.read_bytes(), file.name))
    return routes


def _served(path: str, body: bytes, name: str) -> web.RouteDef:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_HEADERS, "Content-Type": _type(name), "ETag": tag}

    async def serve(request: web.Request) -> web.Response:
        if tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers)

    return web.get(path, serve)


def _type(name: str) -> str:
    return _TYPES.get(name[name.rfind(".") :], "")
