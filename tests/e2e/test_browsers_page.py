"""The commands of docs/browsers.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import yaml

from gearshift.core.config.check import is_origin
from tests.support.envoy_proxy import SHIPPED, descriptor_set, envoy_proxy
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import BOUND_S, from_yaml, running_server
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai

PAGE = (Path(__file__).parents[2] / "docs/browsers.md").read_text()
COMMANDS: list[str] = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
AT_ONCE = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"


def command(part: str) -> str:
    found = [each for each in COMMANDS if part in each]
    assert len(found) == 1, part
    return found[0]


async def said(line: str) -> str:
    """Run a command as a person would; give what it prints."""
    with anyio.fail_after(BOUND_S):
        printed: bytes = (await anyio.run_process(["bash", "-c", line])).stdout
    return printed.decode()


async def test_nothing_but_curl_asks_for_health() -> None:
    line = command("Health/Check")
    async with running_server(from_yaml(one_openai("http://127.0.0.1:9"))) as server:
        printed = await said(line.replace("127.0.0.1:9464", f"127.0.0.1:{server.app.http_port}"))
    assert f"{line}\n{printed.strip()}\n" in PAGE


async def test_curl_calls_and_streams_through_envoy(tmp_path: Path) -> None:
    frames = openai_stream(["one ", "two ", "three"])
    replies = Reply.json(openai_answer("hello there")), Reply.sse(*frames)
    async with (
        scripted(*replies) as upstream,
        running_server(from_yaml(one_openai(upstream.url, more=AT_ONCE))) as server,
        envoy_proxy([server.address], tmp_path) as proxy,
    ):
        await proxy.wait_hosts(server.address)
        here = proxy.address
        assert '"text":"hello there"' in await said(command("RouterService/Route ").replace("127.0.0.1:8080", here))
        lines = (await said(command("RouterService/StreamRoute").replace("127.0.0.1:8080", here))).splitlines()
        shown = [line for line in lines if line]
        assert all(line.startswith('data: {"events":[') for line in shown)
        assert '"delta":{"number":1,"parts":[{"text":"' in "".join(shown)


def test_descriptor_is_built_where_envoy_looks() -> None:
    assert command("buf build").split()[-1] in SHIPPED.read_text()
    assert Path(descriptor_set()).stat().st_size > 10_000


def test_origins_of_the_page_are_origins() -> None:
    (block,) = [each for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "origins" in each]
    for origin in yaml.safe_load(block)["server"]["http_allowed_origins"]:
        assert is_origin(origin)
