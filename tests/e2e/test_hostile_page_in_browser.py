"""A stranger's web page in a real Chromium, on the machine of somebody who runs the service without keys: it gets nothing.

The page is served under a name of its own that leads to this machine, tries whatever browsers let pages send, and tries it
again under a name that leads to the service itself (DNS rebinding). Its own browser's further defences are turned off, so
that what is seen is the service's.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Route

from gearshift.core.config.model import ServerConfig
from tests.support.blueprints import stage
from tests.support.browser import needs_chromium, opened, running_browser
from tests.support.running_server import of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

pytestmark = needs_chromium

NO_DEFENCE_OF_ITS_OWN = (
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP rebound.example 127.0.0.1",
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
)
CHAT = json.dumps({"model": "gearshift", "messages": [{"role": "user", "content": "hello"}]})
TRIES = """async ([home, body]) => {
  const got = {};
  const post = (type, mode, path = "/v1/chat/completions") =>
    fetch(home + path, { method: "POST", body, mode, headers: type ? { "content-type": type } : {} });
  const tries = {
    plain: () => post("text/plain", "no-cors"),
    form: () => post("application/x-www-form-urlencoded", "no-cors"),
    json: () => post("application/json", "cors"),
    rpc: () => post("application/grpc-web+proto", "cors", "/gearshift.v1.OpsService/PurgeCache"),
    rpcText: () => post("application/grpc-web-text", "cors", "/gearshift.v1.RouterService/Route"),
    reload: () => post("text/plain", "no-cors", "/gearshift.v1.OpsService/Reload"),
    models: () => fetch(home + "/v1/models"),
    metrics: () => fetch(home + "/metrics"),
    dashboard: () => fetch(home + "/ops"),
  };
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      const response = await attempt();
      got[name] = response.type === "opaque" ? "opaque" : `${response.status} ${await response.text()}`;
    } catch {
      got[name] = "refused";
    }
  }
  navigator.sendBeacon(home + "/v1/chat/completions", new Blob([body], { type: "text/plain" }));
  const frame = document.createElement("iframe");
  frame.name = "sink";
  document.body.append(frame);
  const form = document.createElement("form");
  Object.assign(form, { method: "POST", action: home + "/v1/chat/completions", enctype: "text/plain", target: "sink" });
  const field = document.createElement("input");
  Object.assign(field, { name: body.slice(0, -1) + ', "user": "', value: '"}' });
  form.append(field);
  document.body.append(form);
  form.submit();
  await new Promise((resolve) => (frame.onload = resolve));
  got.script = await new Promise((resolve) => {
    const script = document.createElement("script");
    Object.assign(script, { src: home + "/v1/models", onload: () => resolve("loaded"), onerror: () => resolve("refused") });
    document.body.append(script);
  });
  return got;
}"""


@asynccontextmanager
async def site() -> AsyncGenerator[int]:
    """Serve an empty page; gives the port."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>x</title><body></body>", content_type="text/html")

    application = web.Application()
    application.add_routes([web.get("/", page)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def tried(browser: Browser, page_url: str, home: str, *, as_if: bool = False) -> dict[str, str]:
    """Open a page and have it try; `as_if` has its name serve the page first and lead to the service afterwards."""
    seen = await opened(browser, "about:blank")
    if as_if:

        async def serve(route: Route) -> None:
            await route.fulfill(body="<!doctype html><title>x</title><body></body>", content_type="text/html")

        await seen.page.route(page_url, serve)
    await seen.page.goto(page_url)
    got: dict[str, Any] = await seen.page.evaluate(TRIES, [home, CHAT])
    return got


async def test_page_of_a_stranger_gets_and_spends_nothing() -> None:
    provider = ScriptedProvider([says("hi")])
    config = of_stages(stage(0), server=ServerConfig(port=0, http_port=0, grace_s=1))
    async with (
        running_server(config, providers={"p0": provider}) as server,
        site() as port,
        running_browser(*NO_DEFENCE_OF_ITS_OWN) as browser,
    ):
        home = f"http://127.0.0.1:{server.app.http_port}"
        got = await tried(browser, f"http://evil.example:{port}/", home)
        assert set(got.values()) <= {"refused", "opaque"}, got
        rebound = f"http://rebound.example:{server.app.http_port}"
        got = await tried(browser, f"{rebound}/", rebound, as_if=True)
        assert all(each.startswith("421 ") for name, each in got.items() if name != "script"), got
        assert got["script"] == "refused"
        assert (provider.calls, server.app.guard.ended) == ([], 0)
        # What the page tried is what a page of the service may do.
        own = await opened(browser, home)
        told: int = await own.page.evaluate(
            """(body) => fetch("/v1/chat/completions", {method: "POST", body, headers: {"content-type": "application/json"}})
                .then((response) => response.status)""",
            CHAT,
        )
        assert told == 200 and len(provider.calls) == 1


@pytest.mark.parametrize("path", ["/", "/ops"])
async def test_pages_of_the_service_cannot_be_framed(path: str) -> None:
    config = of_stages(stage(0), server=ServerConfig(port=0, http_port=0, grace_s=1))
    async with (
        running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server,
        site() as port,
        running_browser(*NO_DEFENCE_OF_ITS_OWN) as browser,
    ):
        seen = await opened(browser, f"http://evil.example:{port}/")
        await seen.page.evaluate(
            """(url) => new Promise((resolve) => {
                const frame = document.createElement("iframe");
                frame.onload = resolve;
                frame.src = url;
                document.body.append(frame);
            })""",
            f"http://127.0.0.1:{server.app.http_port}{path}",
        )
        (frame,) = seen.page.frames[1:]
        assert await frame.locator("#send, #tile-calls").count() == 0
