"""The pages in a real browser: a chat that shifts gear, the dashboard, and who they keep out or let in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
import pytest
from playwright.async_api import Page, Request, expect

from gearshift.server.simulator import Simulator, parse_plan, running_simulator
from gearshift.v1 import ops_pb2
from tests.support.browser import BOUND_MS, faults_of, needs_chromium, opened, picture, running_browser
from tests.support.running_server import RunningServer, from_yaml, plain_call, running_server

pytestmark = needs_chromium

SOON_MS = 100.0
"""From the press of Stop to the moment when the provider has seen it."""
WEAK = (
    "So, a gearbox is basically a box with gears in it, and they go round and round until somebody stops them at last."
)
STRONG = "A gearbox lets an engine run at the speed that suits it while the wheels turn at another."
LONG = " ".join(f"The gear with {number} teeth turns the one beside it." for number in range(12, 92))
HOSTILE = (
    "# Head\n\n**bold** and `code` <img src=x onerror=alert(1)> [go](javascript:alert(1)) [there](https://example.com/)"
    "\n\n<script>alert(1)</script>\n\n| a | b |\n| - | - |\n| 1 | 2 |"
    "\n\n![seen](https://evil.example/a.png) [in](data:text/html,<script>alert(1)</script>) [up](//evil.example/x)"
    "\n\n<svg onload=alert(1)></svg> <style>@import 'https://evil.example/a.css';</style> <iframe src=//evil.example></iframe>"
    "\n\n[a](JaVaScRiPt:alert(1)) [b](vbscript:x) <a href='javascript:alert(1)'>c</a> <form action=//evil.example><input></form>"
)
PLAN = f"""\
providers:
  weak:
    wire: openai
    latency: {{first_token_ms: 30, token_ms: 30}}
    faults:
      - {{fault: "cut@16", contains: "gearbox"}}
      - {{fault: "stall@6:60", contains: "for ever"}}
  strong:
    wire: anthropic
    latency: {{first_token_ms: 200, token_ms: 60}}
answers:
  - {{provider: strong, text: "{STRONG}"}}
  - {{contains: "long one", text: "{LONG}"}}
  - {{contains: "markup", text: {json.dumps(HOSTILE)}}}
  - {{text: "{WEAK}"}}
"""
CONFIG = """\
version: 1
server: {{grace_s: 0.2}}
ledger: {{path: "{ledger}"}}
providers:
  weak: {{kind: openai, base_url: "{weak}"}}
  strong: {{kind: anthropic, base_url: "{strong}"}}
models:
  small: {{provider: weak, wire_id: m, capability: medium, context_tokens: 8192, prices: {{input_usd: 1, output_usd: 2}}}}
  large: {{provider: strong, wire_id: m, capability: high, context_tokens: 8192, prices: {{input_usd: 10, output_usd: 20}}}}
chains:
  generate:
    stages:
      - {{provider: weak, model: small, max_retries: 0, timeouts: {{first_token_s: 60, idle_s: 60}}}}
      - {{provider: strong, model: large, max_retries: 0}}
defaults: {{complexity: {{generate: low}}}}
stream: {{hold_back_tokens: 2}}
tasks:
  declared:
    support: {{type: generate, complexity: low, chain: generate}}
"""


def config(simulator: Simulator, folder: Path, more: str = "") -> str:
    ledger = folder / "ledger.db"
    return CONFIG.format(**simulator.base_urls, ledger=ledger) + more


@asynccontextmanager
async def service(folder: Path, more: str = "") -> AsyncGenerator[tuple[RunningServer, Simulator, str]]:
    async with (
        running_simulator(parse_plan(PLAN), seed=1) as simulator,
        running_server(from_yaml(config(simulator, folder, more))) as server,
    ):
        yield server, simulator, f"http://127.0.0.1:{server.app.http_port}"


async def ask(page: Page, text: str) -> None:
    await page.fill("#prompt", text)
    await page.keyboard.press("Enter")


async def test_a_switch_in_mid_stream_is_seen_and_heard(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, _, url), running_browser() as browser:
        seen = await opened(browser, url)
        page = seen.page
        await picture(page, "chat-welcome")
        await ask(page, "How does a gearbox work?")
        await expect(page.locator(".gear.running .name")).to_have_text("small")
        await expect(page.locator(".answer .text")).to_contain_text("basically a box")
        taken = page.locator(".retracted del")
        await expect(taken).to_be_visible()
        await picture(page, "chat-shifting")
        assert WEAK.startswith((await taken.text_content() or "?").rstrip())
        await expect(page.locator(".answer.ended .text")).to_have_text(STRONG)
        await expect(page.locator(".gear.left .name")).to_have_text("small")
        await expect(page.locator(".gear.served .name")).to_have_text("large")
        await expect(page.locator("#spoken")).to_have_text("The answer is complete, by large.")
        await expect(page.locator(".facts")).to_contain_text("by large")
        # The two sums run up to what the answer says of itself.
        facts = await page.locator(".facts").text_content() or ""
        await expect(page.locator("#cost")).to_have_text(re.findall(r"\$[0-9.]+", facts)[0])
        assert "more than the strongest model" in facts
        await expect(page.locator("#saved")).to_have_text(re.compile(r"^−\$0\.0+[1-9]"))
        await page.locator(".why summary").click()
        await expect(page.locator(".why p")).to_contain_text("digest checked")
        await picture(page, "chat-shifted")
        # What the first gear answers alone is cheaper than the strongest.
        await page.locator("#new").click()
        await ask(page, "What is a wheel?")
        await expect(page.locator(".facts .saving")).to_contain_text("less than the strongest model")
        await expect(page.locator("#saved")).to_have_text(re.compile(r"^\$0\.0+[1-9]"))
        assert await faults_of(page) == []
        seen.check_console()


async def test_a_checkpoint_is_seen_where_it_stands(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, _, url), running_browser() as browser:
        seen = await opened(browser, url)
        page = seen.page
        await page.locator(".settings details summary").click()
        await page.select_option("#mode", "fail")
        await ask(page, "Say the long one.")
        mark = page.locator(".answer .text .checkpoint")
        await expect(mark).to_have_attribute("aria-label", re.compile("never taken back"), timeout=BOUND_MS)
        before = await page.evaluate(
            """() => {
                const mark = document.querySelector(".answer .text .checkpoint");
                const whole = document.createRange();
                whole.setStart(document.querySelector(".answer .text"), 0);
                whole.setEndBefore(mark);
                return whole.toString();
            }"""
        )
        assert before and LONG.startswith(before)
        assert await faults_of(page) == []
        await page.locator("#stop").click()
        seen.check_console()


async def test_stop_reaches_the_provider(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, simulator, url), running_browser() as browser:
        seen = await opened(browser, url)
        page = seen.page
        await ask(page, "Go on for ever.")
        await expect(page.locator(".answer .text")).to_contain_text("So, a gearbox")
        await page.locator("#stop").click()
        await expect(page.locator(".answer.ended footer")).to_contain_text("Stopped")
        with anyio.fail_after(5):
            while not any(entry.end == "client left" for entry in simulator.account.entries):
                await anyio.sleep(0.01)
        # The page goes on as if nothing had been.
        await ask(page, "How does a gearbox work?")
        await expect(page.locator(".answer.ended .text").last).to_have_text(STRONG)
        await page.locator(".answer").last.get_by_role("button", name="Retry").click()
        await expect(page.locator(".answer.ended .text").last).to_have_text(STRONG)
        assert await page.locator(".answer").count() == 2
        seen.check_console()


async def test_the_chat_goes_on_after_the_service_was_started_again(tmp_path: Path) -> None:
    async with running_simulator(parse_plan(PLAN), seed=1) as simulator, running_browser() as browser:
        async with running_server(from_yaml(config(simulator, tmp_path))) as server:
            ports = server.app.port, server.app.http_port
            seen = await opened(browser, f"http://127.0.0.1:{ports[1]}")
            dashboard = await opened(browser, f"http://127.0.0.1:{ports[1]}/ops")
            await ask(seen.page, "How does a gearbox work?")
            await expect(seen.page.locator(".answer.ended .text")).to_have_text(STRONG)
        await ask(seen.page, "And a gearbox of a bicycle?")
        await expect(seen.page.locator("#status")).to_contain_text("trying again")
        await dashboard.page.locator("#refresh").click()
        await expect(dashboard.page.locator("#said")).to_contain_text("trying again")
        async with running_server(from_yaml(config(simulator, tmp_path), ports=ports)):
            await expect(seen.page.locator(".answer.ended")).to_have_count(2, timeout=BOUND_MS)
            await expect(seen.page.locator(".answer .text").last).to_have_text(STRONG)
            await expect(dashboard.page.locator("#said")).to_have_text("", timeout=BOUND_MS)
            await expect(dashboard.page.locator("#tile-calls")).to_have_text("2", timeout=BOUND_MS)
        seen.check_console("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")


async def test_the_dashboards_figures_are_the_ledgers(tmp_path: Path) -> None:
    async with service(tmp_path) as (server, _, url), running_browser() as browser:
        for number in range(3):
            await server.stream(plain_call(f"How does gearbox {number} work?"))
        for number in range(5):
            await server.stream(plain_call(f"How does wheel {number} turn?"))
        await server.app.ledger.flush()
        report = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())
        seen = await opened(browser, f"{url}/ops", width=1280, height=1400)
        page, total = seen.page, report.total
        await expect(page.locator("#tile-calls")).to_have_text(str(total.calls))
        cost = await page.locator("#tile-cost").text_content() or ""
        assert Decimal(cost.removeprefix("$")) == pytest.approx(Decimal(total.cost_usd), rel=Decimal("0.03"))
        row = page.locator("#by-task tbody tr").first
        (task,) = report.rows
        cells = await row.locator("th, td").all_text_contents()
        assert cells[:5] == [task.keys[0], str(task.calls), str(task.attempts), str(task.failed), "0"]
        assert cells[5] == f"{task.usage.input_tokens} → {task.usage.output_tokens}"
        await expect(page.locator("#positions li").nth(1)).to_contain_text("38 % · 3")
        await expect(page.locator("#reasons li")).to_contain_text("connection")
        await expect(page.locator("#stages tbody tr")).to_have_count(2)
        # What ends while one looks is there at once, and one press shows its whole way.
        await server.stream(plain_call("How does the last gearbox work?"))
        await expect(page.locator("#trail-rows tr")).to_have_count(13)
        await picture(page, "dashboard")
        assert await faults_of(page) == []
        await server.app.ledger.flush()
        await page.locator("#trail-rows .link").first.click()
        await expect(page.locator(".timeline > li")).to_have_count(2)
        await expect(page.locator(".timeline > li").last).to_contain_text("strong/large · fallback · accepted · served")
        await picture(page, "dashboard-request")
        assert await faults_of(page) == []
        await page.locator("#timeline-close").click()
        await page.fill("#search-text", "conn")
        await page.keyboard.press("Enter")
        await expect(page.locator("#trail-rows tr")).to_have_count(4)
        await page.select_option("#group", "task")
        await expect(page.locator("#chart-calls caption")).to_have_text("Calls over time")
        seen.check_console()


async def test_caches_are_emptied_from_the_dashboard(tmp_path: Path) -> None:
    async with service(tmp_path) as (server, _, url), running_browser() as browser:
        server.app.router.put_prompt("default", "support", "You answer with care, in a few words. " * 20, static=True)
        seen = await opened(browser, f"{url}/ops")
        page = seen.page
        await expect(page.locator("#caches tbody tr").first).to_contain_text("prompt1")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Purge the prompt cache").click()
        await expect(page.locator("#caches tbody tr").first).to_contain_text("prompt0")
        assert server.app.router.state.prompts is not None
        seen.check_console()


async def test_keys_are_asked_for_and_stay_in_the_tab(tmp_path: Path) -> None:
    caller, ops = "gs_app_" + "1f" * 32, "gs_ops_" + "2e" * 32
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in (("app", caller), ("ops", ops))}
    more = f"""\
access:
  keys:
    - {{id: app, sha256: {digests["app"]}, tenant: acme}}
    - {{id: ops, sha256: {digests["ops"]}, tenant: default, role: ops}}
  tenants: {{acme: {{}}}}
"""
    refused = "status of 401"
    async with service(tmp_path, more) as (_, _, url), running_browser() as browser:
        seen = await opened(browser, url)
        page = seen.page
        await expect(page.locator("#key-dialog")).to_be_visible()
        assert await faults_of(page) == []
        await page.fill("#key-field", caller)
        await page.keyboard.press("Enter")
        await ask(page, "How does a gearbox work?")
        await expect(page.locator(".answer.ended .text")).to_have_text(STRONG)
        assert caller not in await page.content()
        seen.check_console(refused)
        dashboard = await opened(browser, f"{url}/ops")
        asked: list[str] = []
        dashboard.page.on("request", partial(_noted, asked))
        await expect(dashboard.page.locator("#key-why")).to_contain_text("role ops")
        await dashboard.page.fill("#key-field", caller)
        await dashboard.page.keyboard.press("Enter")
        await expect(dashboard.page.locator("#key-why")).to_have_text("This key has not the role ops.")
        await dashboard.page.fill("#key-field", ops)
        await dashboard.page.keyboard.press("Enter")
        await expect(dashboard.page.locator("#by-tenant tbody th")).to_have_text("acme")
        # It goes with the calls, and is nowhere else: not in an address, nor where another tab or day would find it.
        assert asked and not [each for each in asked if ops in each]
        assert ops not in dashboard.page.url
        assert ops not in await dashboard.page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
        other = await dashboard.page.context.new_page()
        await other.goto(f"{url}/ops")
        await expect(other.locator("#key-dialog")).to_be_visible()
        dashboard.check_console(refused)


async def test_what_a_model_writes_is_shown_and_never_run(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, _, url), running_browser() as browser:
        seen = await opened(browser, url)
        page = seen.page
        alerts: list[str] = []
        page.on("dialog", lambda dialog: alerts.append(dialog.message))
        asked: list[str] = []
        page.on("request", partial(_noted, asked))
        await ask(page, "Show me markup.")
        text = page.locator(".answer.ended .text")
        await expect(text.locator("h1")).to_have_text("Head", timeout=BOUND_MS)
        await expect(text.locator("strong")).to_have_text("bold")
        await expect(text.locator("td").first).to_have_text("1")
        assert await text.locator("img, script, svg, style, iframe, form, input").count() == 0
        await expect(text).to_contain_text("<img src=x onerror=alert(1)>")
        links = text.locator("a")
        addresses = [await links.nth(place).get_attribute("href") for place in range(await links.count())]
        assert "https://example.com/" in addresses
        assert all(each is None or each.startswith("https://") for each in addresses)
        assert asked and all(each.startswith(f"{url}/") for each in asked)
        assert await links.nth(1).get_attribute("rel") == "noopener noreferrer nofollow"
        assert alerts == []
        seen.check_console()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_pages_are_for_everybody_on_a_phone_too(tmp_path: Path, dark: bool) -> None:
    async with service(tmp_path) as (server, _, url), running_browser() as browser:
        await server.stream(plain_call("How does a gearbox work?"))
        chat = await opened(browser, url, width=390, height=780, dark=dark, phone=True)
        page = chat.page
        assert await faults_of(page) == []
        await ask(page, "How does a gearbox work?")
        await expect(page.locator(".answer.ended .text")).to_have_text(STRONG)
        await page.locator(".settings details summary").click()
        if dark:
            await picture(page, "chat-phone-dark")
        assert await faults_of(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dashboard = await opened(browser, f"{url}/ops", width=390, height=780, dark=dark, phone=True)
        await expect(dashboard.page.locator("#tile-calls")).to_have_text("2", timeout=BOUND_MS)
        assert await faults_of(dashboard.page) == []
        assert await dashboard.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        chat.check_console()
        dashboard.check_console()


async def test_the_chat_is_used_by_keys_alone(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, _, url), running_browser() as browser:
        seen = await opened(browser, url)
        page = seen.page
        await page.keyboard.type("Go on for ever.")  # the prompt has the focus
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("Please.")
        await page.keyboard.press("Enter")
        await expect(page.locator(".mine p")).to_have_text(re.compile(r"Go on for ever\.\s+Please\."))
        await expect(page.locator(".answer .text")).to_contain_text("So, a gearbox")
        await page.keyboard.press("Escape")
        await expect(page.locator(".answer.ended footer")).to_contain_text("Stopped")
        reached: set[str] = set()
        for _ in range(16):
            await page.keyboard.press("Tab")
            reached.add(await page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert {"new", "key-button", "theme", "send", "task", "Retry", "Dashboard"} <= reached
        seen.check_console()


async def test_pages_bring_everything_with_them(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, _, url), running_browser() as browser:
        for path in ("/", "/ops"):
            seen, asked = await opened(browser, "about:blank"), list[str]()
            seen.page.on("request", partial(_noted, asked))
            response = await seen.page.goto(f"{url}{path}")
            assert response is not None
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            await seen.page.wait_for_load_state("networkidle" if path == "/" else "load")
            assert asked and all(each.startswith(f"{url}/") for each in asked)
            seen.check_console()


def _noted(asked: list[str], request: Request) -> None:
    asked.append(request.url)
