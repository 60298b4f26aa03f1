"""The HTTP port: what it shows, to whom, and that its labels stay few."""

from __future__ import annotations

import hashlib
import re
import socket
from decimal import Decimal

import httpx
import pytest

from gearshift.core.answer import Usage
from gearshift.core.config.model import AccessConfig, KeyConfig, LimitsConfig, ServerConfig, TenantConfig
from gearshift.core.errors import ConfigError
from gearshift.core.words import FailureKind
from tests.support.blueprints import stage
from tests.support.running_server import RunningServer, from_yaml, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says
from tests.support.served_config import one_openai

WITH_HTTP = ServerConfig(port=0, http_port=0, grace_s=1)
NOWHERE = "http://127.0.0.1:9"


async def get(server: RunningServer, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{server.app.http_port}{path}", headers=headers)


def series(text: str) -> dict[str, float]:
    """Give every sample by its name and labels."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_metrics_tell_calls_attempts_tokens_and_cost() -> None:
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)]),
        "p1": ScriptedProvider(
            [says("hi", usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=30, cache_write_tokens=4))]
        ),
    }
    async with running_server(of_stages(stage(0), stage(1), server=WITH_HTTP), providers=providers) as server:
        await server.route(plain_call())
        await server.stream(plain_call())
        response = await get(server, "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    shown = series(response.text)
    names = {re.split(r"[{]", key)[0] for key in shown}
    for name in (
        "gearshift_calls_total",
        "gearshift_call_seconds_bucket",
        "gearshift_attempts_total",
        "gearshift_attempt_seconds_count",
        "gearshift_first_token_seconds_count",
        "gearshift_tokens_total",
        "gearshift_cost_usd_total",
        "gearshift_verdicts_total",
        "gearshift_calls_in_flight",
        "gearshift_ledger_pending",
        "gearshift_ledger_dropped",
    ):
        assert name in names
    calls = 'gearshift_calls_total{outcome="accepted",stream="%s",task="undeclared",task_type="generate"}'
    assert shown[calls % "false"] == shown[calls % "true"] == 1
    assert (
        shown[
            'gearshift_attempts_total{cause="fallback",failure="",model="m1",outcome="accepted",position="1",provider="p1"}'
        ]
        == 2
    )
    tokens = 'gearshift_tokens_total{kind="%s",model="m1",provider="p1",task="undeclared"}'
    kinds = ("input", "output", "cache_read", "cache_write")
    assert [shown[tokens % kind] for kind in kinds] == [200, 40, 60, 8]
    assert shown['gearshift_cost_usd_total{model="m1",provider="p1",task="undeclared"}'] > 0


async def test_a_thousand_undeclared_tasks_share_one_label() -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=WITH_HTTP), providers={"p0": provider}) as server:
        await server.route(plain_call())
        before = len(series((await get(server, "/metrics")).text))
        for number in range(1000):
            await server.route(plain_call(task_id=f"invented-{number}"))
        response = await get(server, "/metrics")
    assert len(series(response.text)) == before
    assert "invented" not in response.text


async def test_declared_tasks_have_labels_of_their_own() -> None:
    config = from_yaml(one_openai(NOWHERE, more="tasks: {declared: {greet: {type: generate}}}"))
    async with running_server(config, providers={"up": ScriptedProvider([says("hi")])}) as server:
        await server.route(plain_call())
        await server.route(plain_call(task_id="other"))
        text = (await get(server, "/metrics")).text
    assert set(re.findall(r'task="([^"]*)"', text)) == {"greet", "undeclared"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="as it is"),
        pytest.param({"Host": "localhost:9464"}, 200, id="localhost"),
        pytest.param({"Host": "[::1]:9464"}, 200, id="IPv6"),
        pytest.param({"Host": "[::1]"}, 200, id="IPv6 without a port"),
        pytest.param({"Host": "evil.example"}, 421, id="another name"),
        pytest.param({"Host": "evil.example:9464"}, 421, id="another name with a port"),
        pytest.param({"Host": "127.0.0.1.evil.example"}, 421, id="a name that begins like an address"),
        pytest.param({"Host": "localhost.evil.example"}, 421, id="a name that begins like ours"),
        pytest.param({"Host": "localhost:9464", "Origin": "http://localhost:9464"}, 200, id="our own page"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="another site"),
        pytest.param({"Origin": "null"}, 403, id="a page without a site"),
        pytest.param({"Host": "localhost:9464", "Origin": "http://localhost:3000"}, 403, id="another port"),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
async def test_only_this_machine_s_own_pages_may_read(headers: dict[str, str], status: int, path: str) -> None:
    async with running_server(of_stages(stage(0), server=WITH_HTTP), providers={}) as server:
        response = await get(server, path, **headers)
    assert response.status_code == status
    assert ("gearshift_" in response.text or response.text == "SERVING\n") is (status == 200)


async def test_health_follows_the_service() -> None:
    async with running_server(of_stages(stage(0), server=WITH_HTTP), providers={}) as server:
        assert (await get(server, "/healthz")).text == "SERVING\n"
        server.app.is_serving = False
        response = await get(server, "/healthz")
        assert (response.status_code, response.text) == (503, "NOT_SERVING\n")
        assert (await get(server, "/nothing")).status_code == 404
        async with httpx.AsyncClient(trust_env=False) as client:
            posted = await client.post(f"http://127.0.0.1:{server.app.http_port}/metrics")
        assert posted.status_code == 405


async def test_metrics_that_are_off_say_so() -> None:
    async with running_server(one_openai(NOWHERE, more="telemetry: {export_metrics: none}")) as server:
        response = await get(server, "/metrics")
        assert (response.status_code, response.text) == (404, "telemetry.export_metrics is none\n")


@pytest.mark.parametrize("which", ["port", "http_port"])
async def test_port_in_use_says_what_to_do(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        config = ServerConfig(port=port if which == "port" else 0, http_port=port if which == "http_port" else 0)
        with pytest.raises(ConfigError, match=f"server.{which}: cannot listen on 127.0.0.1:{port}.*choose"):
            async with running_server(of_stages(stage(0), server=config), providers={}):
                pass


async def test_two_services_do_not_share_a_port() -> None:
    async with running_server(of_stages(stage(0)), providers={}) as server:
        second = of_stages(stage(0), server=ServerConfig(port=server.app.port, http=False))
        with pytest.raises(ConfigError, match="it is in use"):
            async with running_server(second, providers={}):
                pass


_KEYS = {name: f"gs_{name}_" + f"{number:02x}" * 32 for number, name in enumerate(("app", "ops"), 1)}


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
async def test_metrics_are_for_operators_where_there_are_keys(is_open: bool) -> None:
    access = AccessConfig(
        keys=tuple(
            KeyConfig(
                id=name,
                sha256=hashlib.sha256(key.encode()).hexdigest(),
                tenant="acme" if name == "app" else "default",
                role="ops" if name == "ops" else "caller",
            )
            for name, key in _KEYS.items()
        ),
        tenants={"acme": TenantConfig(limits=LimitsConfig(usd_per_day=Decimal(5)))},
        open_metrics=is_open,
    )
    spends = 'gearshift_budget_left_usd{name="acme",of="tenant",period="day"}'
    async with running_server(of_stages(stage(0), server=WITH_HTTP, access=access), providers={}) as server:
        for key, status in (("", 401), (f"{_KEYS['app']}0", 401), ("é", 401), (_KEYS["app"], 403), (_KEYS["ops"], 200)):
            headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
            response = await get(server, "/metrics", **headers)  # type: ignore[arg-type]
            assert response.status_code == (200 if is_open else status), key
            assert (spends in response.text) is (response.status_code == 200)
            assert not key or key not in response.text
        assert (await get(server, "/healthz")).status_code == 200
        assert server.app.guard.refusals.by_cause.total() == (0 if is_open else 3)
