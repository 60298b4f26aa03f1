"""A hostile web page, open in the browser of somebody who runs the service on this machine, at OpenAI's paths.

What a page can send without permission, and what its browser adds, is written out here: no key protects a service on
loopback that has none configured, so that each of these calls would be paid for.
"""

from __future__ import annotations

import json

import pytest

from gearshift.core.config.model import ServerConfig
from tests.support.blueprints import stage
from tests.support.openai_clients import asked_raw, chat_body
from tests.support.running_server import RunningServer, of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

HTTP = ServerConfig(port=0, http_port=0, grace_s=5)
EVIL = "https://evil.example"
CHAT = "/v1/chat/completions"
PATHS = (CHAT, "/v1/embeddings")


def body_for(path: str) -> dict[str, object]:
    return chat_body() if path == CHAT else {"model": "gearshift", "input": "a"}


def own_host(server: RunningServer) -> str:
    return f"127.0.0.1:{server.app.http_port}"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Origin": EVIL, "Content-Type": "text/plain"}, 403, id="fetch without asking, mode no-cors"),
        pytest.param({"Origin": EVIL}, 403, id="fetch with JSON"),
        pytest.param({"Origin": "null"}, 403, id="sandboxed frame"),
        pytest.param({"Origin": "https://127.0.0.1.evil.example"}, 403, id="name that looks like ours"),
        pytest.param({"Origin": "http://localhost:1"}, 403, id="another service on this machine"),
        pytest.param({"Origin": EVIL, "Content-Type": "application/x-www-form-urlencoded"}, 403, id="form"),
        pytest.param({"Content-Type": "text/plain"}, 415, id="no Origin, plain text that holds JSON"),
        pytest.param({"Content-Type": "text/plain; charset=application/json"}, 415, id="JSON as a parameter"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, 415, id="no Origin, form"),
        pytest.param({"Content-Type": "multipart/form-data; boundary=x"}, 415, id="no Origin, form with files"),
        pytest.param({"Content-Type": ""}, 415, id="beacon without a type"),
        pytest.param({"Content-Type": "application/grpc-web+proto"}, 415, id="type of another path"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="no Origin, but the browser says cross-site"),
        pytest.param({"Host": "evil.example"}, 421, id="name that leads here (DNS rebinding)"),
        pytest.param({"Host": "evil.example", "Origin": "http://evil.example"}, 421, id="rebinding, same origin"),
    ],
)
async def test_page_of_another_site_spends_nothing(path: str, headers: dict[str, str], status: int) -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        answer = await asked_raw(server, body_for(path), path=path, headers=headers)
        assert server.app.guard.ended == 0
    assert answer.status == status
    # Whoever is turned away by mistake, such as a client that says no content type, can read why.
    assert answer.headers["content-type"].startswith("application/json")
    assert (answer.error["type"], bool(answer.error["code"])) == ("invalid_request_error", True)
    assert "access-control-allow-origin" not in answer.headers
    assert provider.calls == [] and provider.embed_calls == []


@pytest.mark.parametrize("path", PATHS)
async def test_browser_that_asks_for_permission_is_given_none(path: str) -> None:
    asked = {
        "Origin": EVIL,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,authorization",
        "Access-Control-Request-Private-Network": "true",
    }
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider()}) as server:
        answer = await asked_raw(server, b"", path=path, method="OPTIONS", headers=asked)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gearshift", CHAT])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": EVIL}, id="fetch"),
        pytest.param(
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, id="tag"
        ),
    ],
)
async def test_page_of_another_site_reads_nothing(path: str, headers: dict[str, str]) -> None:
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider()}) as server:
        answer = await asked_raw(server, b"", path=path, method="GET", headers=headers)
    assert answer.status == 403
    assert b"chain:" not in answer.body


async def test_get_never_makes_a_call() -> None:
    """A picture's address is fetched without permission."""
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server:
        for path in (f"{CHAT}?{json.dumps(chat_body())}", "/v1/embeddings", "/v1/completions"):
            answer = await asked_raw(server, b"", path=path.replace(" ", ""), method="GET")
            assert answer.status == 404
    assert provider.calls == []


@pytest.mark.parametrize("path", PATHS)
async def test_page_of_our_own_and_an_allowed_one_may_call(path: str) -> None:
    friend = "https://chat.example.com"
    config = ServerConfig(port=0, http_port=0, grace_s=5, http_allowed_origins=(friend,))
    async with running_server(
        of_stages(stage(0), server=config), providers={"p0": ScriptedProvider([says("hi")])}
    ) as server:
        own = await asked_raw(server, body_for(path), path=path, headers={"Origin": f"http://{own_host(server)}"})
        friends = await asked_raw(server, body_for(path), path=path, headers={"Origin": friend})
        asked = {
            "Origin": friend,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang,x-stainless-os",
        }
        permission = await asked_raw(server, b"", path=path, method="OPTIONS", headers=asked)
    assert (own.status, friends.status, permission.status) == (200, 200, 204)
    assert "access-control-allow-origin" not in own.headers
    assert friends.headers["access-control-allow-origin"] == friend
    # The official client for browsers sends headers of its own.
    assert "x-stainless-lang" in permission.headers["access-control-allow-headers"]


async def test_port_that_takes_no_calls_has_no_such_paths() -> None:
    for config in (
        ServerConfig(port=0, http_port=0, grace_s=5, http_calls=False),
        ServerConfig(port=0, http_port=0, grace_s=5, openai=type(HTTP.openai)(enabled=False)),
    ):
        provider = ScriptedProvider([says("hi")])
        async with running_server(of_stages(stage(0), server=config), providers={"p0": provider}) as server:
            assert (await asked_raw(server, chat_body())).status == 404
            assert (await asked_raw(server, b"", path="/v1/models", method="GET")).status == 404
        assert provider.calls == []
