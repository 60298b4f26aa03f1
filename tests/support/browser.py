"""A real Chromium, Debian's, without a window.

    async with running_browser() as browser:
        page = await opened(browser, url)      # fails the test on whatever the page's console says

Where there is none, tests skip and say how to get it; with CI=true that is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe_playwright_python  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or ""
BOUND_MS = 20_000

needs_chromium = pytest.mark.skipif(
    not CHROMIUM and os.environ.get("CI") != "true", reason="Chromium is not installed: make test-deps"
)


@dataclass
class Seen:
    """A page, and what its console said."""

    page: Page
    said: list[str] = field(default_factory=list[str])

    def check_console(self, *expected: str) -> None:
        """Check that nothing was said but what is expected."""
        assert [line for line in self.said if not any(word in line for word in expected)] == []


@asynccontextmanager
async def running_browser(*flags: str) -> AsyncGenerator[Browser]:
    """Run one, with further flags of its command line; a page that a test forgets is closed with it."""
    assert CHROMIUM, "Chromium is not installed: make test-deps"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
        try:
            yield browser
        finally:
            await browser.close()


async def opened(
    browser: Browser, url: str, *, width: int = 1000, height: int = 800, dark: bool = False, phone: bool = False
) -> Seen:
    """Open a page in a profile of its own."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        is_mobile=phone,
    )
    context.set_default_timeout(BOUND_MS)
    page = await context.new_page()
    seen = Seen(page)
    page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    await page.goto(url)
    return seen


async def faults_of(page: Page) -> list[str]:
    """Give what axe finds that is serious or critical, each with where."""
    source = (Path(str(axe_playwright_python.__file__)).parent / "axe.min.js").read_text("utf-8")
    await page.evaluate(f"() => {{ {source} }}")
    found: dict[str, Any] = await page.evaluate("() => axe.run()")
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


async def picture(page: Page, name: str) -> None:
    """Take a picture for the documentation, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png")
