"""The Python of docs/clients.md, run as it stands there, prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from tests.support.example_service import example_service
from tests.support.loopback_tls import own_authority

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BOUND_S = 60.0
SNIPPET = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = SNIPPET.findall(PAGE.read_text())


def test_every_snippet_says_what_it_prints() -> None:
    assert len(SNIPPETS) == PAGE.read_text().count("```python") > 0


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[str(number) for number in range(1, len(SNIPPETS) + 1)])
async def test_a_snippet_of_the_page_prints_what_stands_below_it(snippet: tuple[str, str], tmp_path: Path) -> None:
    code, wanted = snippet
    certificate, key = own_authority("the page")
    for name, pem in (("ca.pem", certificate), ("client.pem", certificate), ("client-key.pem", key)):
        (tmp_path / name).write_bytes(pem)
    async with example_service() as (server, _):
        code = code.replace("127.0.0.1:50051", server.address)
        if "async with" in code:
            code = f"import anyio\n\nasync def main():\n{textwrap.indent(code, '    ')}\nanyio.run(main)\n"
        with anyio.fail_after(BOUND_S):
            done = await anyio.run_process(
                [sys.executable, "-W", "error", "-c", code], check=False, stderr=subprocess.PIPE, cwd=tmp_path
            )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == wanted
