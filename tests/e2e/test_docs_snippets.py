"""Every command and every snippet of the pages that newcomers read does what the page says.

What runs each kind of block stands in tests/support/page_session.py, what pages may say of a block in page_blocks.py.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from gearshift.core.embedded import default_weights_are_installed, runtime_is_installed
from tests.support.page_blocks import Block, blocks_of, links_of, same, typed
from tests.support.page_session import ROOT, RUN, PageError, page_session

DOCS = ROOT / "docs"
NAMED = ("README", "quick-start", "concepts", "grpcurl", "operations", "faq", "security")
PAGES = [
    ROOT / "README.md",
    *(DOCS / f"{name}.md" for name in NAMED),
    *sorted((DOCS / "providers").glob("*.md")),
    *sorted((DOCS / "recipes").glob("*.md")),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
TEST_NAME = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


def needed(page: Path) -> None:
    """Skip where a program or the embedded model is missing; in CI that is a failure."""
    languages = {block.language for block in blocks_of(page, ROOT) if "not run" not in block.marks}
    serves_embedded = re.search(r"^\$ (make serve|gearshift serve)$", page.read_text("utf-8"), re.MULTILINE)
    wanted = {"console": ("curl",), "go": ("go",), "ts": ("node", "npm")}
    missing = [name for language in languages for name in wanted.get(language, ()) if shutil.which(name) is None]
    if serves_embedded and not (default_weights_are_installed() and runtime_is_installed()):
        missing.append("the extra `embedded`")
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{page.name} needs {', '.join(missing)}")
    if missing:
        pytest.skip(f"{page.name} needs {', '.join(missing)}")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
async def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    needed(page)
    wrong = ""
    async with page_session(tmp_path) as session:
        try:
            for block in blocks_of(page, ROOT):
                await session.do(block)
        except PageError as error:  # a task group would wrap it
            wrong = str(error)
    assert not wrong, wrong


def test_every_block_of_every_page_is_claimed() -> None:
    left = [
        block.place
        for page in PAGES
        for block in blocks_of(page, ROOT)
        if not block.is_output
        and block.language not in RUN
        and not (block.language == "text" and block.marks.get("shown"))
    ]
    assert not left


def test_a_block_that_is_not_run_says_why() -> None:
    reasons = {
        block.place: block.marks["not run"]
        for page in PAGES
        for block in blocks_of(page, ROOT)
        if "not run" in block.marks
    }
    assert not [place for place, reason in reasons.items() if len(reason.split()) < 4]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    for file, name in TEST_NAME.findall(page.read_text("utf-8")):
        assert (ROOT / file).is_file(), file
        assert not name or re.search(rf"def {name}\b", (ROOT / file).read_text("utf-8")), name


def test_every_page_of_the_docs_stands_in_their_index() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links_of((DOCS / "README.md").read_text("utf-8"))}
    assert not sorted(
        str(page) for page in DOCS.rglob("*.md") if page.resolve() not in linked and page != DOCS / "README.md"
    )


def test_every_claim_of_the_security_page_names_its_test() -> None:
    rows = [line.split("|") for line in (DOCS / "security.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    claims = [cells for cells in rows if len(cells) == 5 and cells[1].strip() not in ("claim", "---")]
    assert len(claims) >= 40
    assert not [cells[1] for cells in claims if not TEST_NAME.search(cells[3])]


BROKEN = {
    "a command that fails": ("console", "$ false\n", None),
    "a command that prints otherwise": ("console", "$ echo one\ntwo\n", None),
    "a command that there is not": ("console", "$ gearshift rout hello\n", None),
    "a field that there is not": ("yaml", "version: 1\nprovders: {}\n", None),
    "half a document": ("json", "{\n", None),
    "a program that prints otherwise": ("python", "print(1)\n", "2\n"),
    "a program that fails": ("python", "from gearshift.clients import nothing\n", "\n"),
    "a text that nobody claims": ("text", "hello\n", None),
    "another language": ("rust", "fn main() {}\n", None),
}


@pytest.mark.parametrize(("language", "body", "printed"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_block_is_noticed(language: str, body: str, printed: str | None, tmp_path: Path) -> None:
    async with page_session(tmp_path) as session:
        with pytest.raises(PageError, match="page:7"):
            await session.do(Block(page="page", line=7, language=language, body=body, printed=printed))


def test_outputs_are_compared_as_the_pages_say() -> None:
    assert same("a  1.25 ms\nb\n", "a 7.5 ms\n…\n")
    assert same("one two\n", "one …\n")
    assert not same("1\n", "2\n", exactly=True)
    assert not same("one\ntwo\n", "one\n")
    assert [each.command for each in typed("$ a \\\n  b\nout\n$ c '{\n}'\n")] == ["a \\\n  b", "c '{\n}'"]
