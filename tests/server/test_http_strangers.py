"""The web page of a stranger, open in a browser on this machine: it gets nothing and spends nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from gearshift.core.config.model import ServerConfig
from gearshift.server.web.guarding import is_own
from gearshift.v1 import router_pb2
from tests.support.blueprints import stage
from tests.support.grpc_web import BINARY, framed
from tests.support.running_server import of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says

PATH = "/gearshift.v1.RouterService/Route"
BODY = framed(router_pb2.RouteRequest(call=plain_call()).SerializeToString())
STRANGER, FRIEND = "https://evil.example", "https://chat.example.com"


@dataclass
class Served:
    """A service on loopback, and what its model was asked."""

    client: httpx.AsyncClient
    port: int
    provider: ScriptedProvider

    async def ask(self, method: str = "POST", path: str = PATH, **headers: str) -> httpx.Response:
        """Send a request as a browser would; `_` in a header's name is a dash."""
        sent = {"Content-Type": BINARY, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.client.request(method, path, content=BODY if method == "POST" else None, headers=sent)


@asynccontextmanager
async def service(**fields: tuple[str, ...]) -> AsyncGenerator[Served]:
    provider = ScriptedProvider([says("hi")])
    config = ServerConfig(
        port=0,
        http_port=0,
        grace_s=1,
        http_allowed_hosts=fields.get("hosts", ()),
        http_allowed_origins=fields.get("origins", ()),
    )
    async with running_server(of_stages(stage(0), server=config), providers={"p0": provider}) as server:
        port = server.app.http_port
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:
            yield Served(client, port, provider)


def says_nothing(response: httpx.Response) -> bool:
    return not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    "said", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
@pytest.mark.parametrize("origin", ["", "own", STRANGER])
async def test_plain_forms_have_no_effect(said: str, origin: str) -> None:
    """The content types that a browser lets any page post without asking."""
    async with service() as served:
        headers = {"Origin": f"http://127.0.0.1:{served.port}" if origin == "own" else origin} if origin else {}
        response = await served.ask(Content_Type=said, **headers)
        assert response.status_code == (403 if origin == STRANGER else 415)
        assert says_nothing(response)
        assert served.provider.calls == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Origin": STRANGER}, 403, id="another site"),
        pytest.param({"Origin": "null"}, 403, id="a page in a sandbox"),
        pytest.param(
            {"Origin": "http://localhost:3000", "Host": "localhost:9464"}, 403, id="another port of this machine"
        ),
        pytest.param({"Origin": "http://evil.example:9464", "Host": "evil.example:9464"}, 421, id="a name led here"),
        pytest.param({"Origin": "http://evil.example", "Host": "127.0.0.1"}, 403, id="a name behind an address"),
        pytest.param({"Host": "evil.example"}, 421, id="a name without an origin"),
        pytest.param({"Host": "gearshift.localhost"}, 421, id="a name below localhost"),
        pytest.param({"Host": ""}, 421, id="no host"),
        pytest.param({"Sec_Fetch_Site": "cross-site"}, 403, id="another site, no origin"),
        pytest.param({"Sec_Fetch_Site": "same-site"}, 403, id="a neighbour, no origin"),
        pytest.param({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403, id="a form that navigates"),
    ],
)
async def test_strangers_are_turned_away(headers: dict[str, str], status: int) -> None:
    async with service() as served:
        for path in (PATH, "/metrics"):
            response = await served.ask("POST" if path == PATH else "GET", path, **headers)
            assert response.status_code == status, path
            assert says_nothing(response)
        assert served.provider.calls == []


@pytest.mark.parametrize("asked", [{"Origin": STRANGER}, {}, {"Origin": "own"}])
async def test_asking_for_permission_gives_none(asked: dict[str, str]) -> None:
    async with service() as served:
        if asked.get("Origin") == "own":
            asked = {"Origin": f"http://127.0.0.1:{served.port}"}
        wish = {
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "content-type",
            "Access_Control_Request_Private_Network": "true",
        }
        for path in (PATH, "/metrics", "/nothing", "*"):
            response = await served.ask("OPTIONS", path, **asked, **wish)
            assert response.status_code in (403, 404, 405)
            assert says_nothing(response)


async def test_own_page_may_call_and_links_to_pages_may_be_followed() -> None:
    async with service() as served:
        own = f"http://127.0.0.1:{served.port}"
        response = await served.ask(Origin=own, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")
        assert response.status_code == 200
        assert says_nothing(response)
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert (await served.ask("GET", "/healthz", **link, Sec_Fetch_Dest="document")).status_code == 200
        assert (await served.ask("GET", "/healthz", **link, Sec_Fetch_Dest="iframe")).status_code == 403
        assert (await served.ask("GET", "/healthz", Sec_Fetch_Site="none")).status_code == 200


async def test_named_site_may_call_and_nobody_else() -> None:
    async with service(origins=(FRIEND,), hosts=("gearshift.example.com",)) as served:
        wish = {"Access_Control_Request_Method": "POST", "Host": "gearshift.example.com"}
        asked = "Content-Type, X-Grpc-Web, gearshift-timeout-ms, x-made-up, gearshift-\tevil"
        given = await served.ask("OPTIONS", Origin=FRIEND, Access_Control_Request_Headers=asked, **wish)
        assert given.status_code == 204
        assert given.headers["access-control-allow-origin"] == FRIEND
        assert "access-control-allow-credentials" not in given.headers
        names = given.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "content-type", "grpc-timeout", "x-grpc-web", "gearshift-timeout-ms"} <= set(names)
        assert not {"x-made-up", "gearshift-\tevil"} & set(names)
        assert "access-control-allow-private-network" not in given.headers
        wish["Access_Control_Request_Private_Network"] = "true"
        private = await served.ask("OPTIONS", Origin=FRIEND, **wish)
        assert private.headers["access-control-allow-private-network"] == "true"

        answer = await served.ask(Origin=FRIEND, Sec_Fetch_Site="cross-site")
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert "grpc-status-details-bin" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"

        for origin in (STRANGER, "http://chat.example.com", FRIEND + ":8443", FRIEND + ".evil.example", FRIEND.upper()):
            for method in ("POST", "OPTIONS"):
                refused = await served.ask(method, Origin=origin, Access_Control_Request_Method="POST")
                assert refused.status_code == 403
                assert says_nothing(refused)
        assert len(served.provider.calls) == 1


async def test_named_site_s_forms_have_no_effect_either() -> None:
    async with service(origins=(FRIEND,)) as served:
        assert (await served.ask(Origin=FRIEND, Content_Type="text/plain")).status_code == 415
        assert served.provider.calls == []


async def test_responses_say_little_of_what_serves_them() -> None:
    async with service() as served:
        for response in (await served.ask(), await served.ask("GET", "/metrics"), await served.ask("GET", "/nothing")):
            assert response.headers["server"] == "gearshift"
            assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("10.0.0.7:9464", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("named.example:1", True),
        ("Named.Example", True),
        ("localhost.", False),
        ("2130706433", False),
        ("127.1", False),
        ("0x7f.0.0.1", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1 evil.example", False),
        ("", False),
        (":80", False),
    ],
)
def test_host_is_an_address_or_a_configured_name(host: str, own: bool) -> None:
    assert is_own(host, ("named.example",)) is own
