"""The TypeScript of docs/clients.md and of the package's own page, run as it stands there, prints what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.node_packages import TYPESCRIPT, built_typescript_client
from tests.support.page_blocks import blocks_of
from tests.support.page_session import ROOT, PageError, page_session

OWN = TYPESCRIPT / "README.md"
PAGES = [ROOT / "docs" / "clients.md", OWN]
RUN = ("console", "ts")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_the_typescript_of_a_page_prints_what_stands_below_it(page: Path, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(built_typescript_client)
    blocks = [block for block in blocks_of(page, ROOT) if block.language in RUN]
    assert [block.language for block in blocks].count("ts") >= 3
    wrong = ""
    async with page_session(tmp_path) as session:
        try:
            for block in blocks:
                await session.do(block)
        except PageError as error:  # a task group would wrap it
            wrong = str(error)
    assert not wrong, wrong


def test_the_page_in_html_is_the_example() -> None:
    (snippet,) = re.findall(r"```html\n(.*?)```", OWN.read_text("utf-8"), re.DOTALL)
    example = (TYPESCRIPT / "examples/page.html").read_text("utf-8")
    assert not [line for line in snippet.splitlines() if line.strip() not in example]


def test_the_bundle_is_as_large_as_the_page_says() -> None:
    (told,) = re.findall(r"one file for browsers \((\d+) KB,", OWN.read_text("utf-8"))
    served = ROOT / "server/gearshift/server/web/pages/gearshift.js"
    assert abs(served.stat().st_size / 1000 - int(told)) < 3
