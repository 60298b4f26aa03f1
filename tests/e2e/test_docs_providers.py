"""The tables of docs/providers say what the code has."""

from __future__ import annotations

import pytest

from gearshift.core.config.kinds import FACTS
from gearshift.core.providers._wire import STATUS_KINDS
from tests.support.page_session import ROOT
from tests.support.provider_tables import failures_table, kinds_table, models_table

PAGES = ROOT / "docs/providers"
SECTIONS = (
    "Minimal configuration",
    "What is mapped",
    "Limits and known differences",
    "Errors",
    "Where the facts are from",
)
MAPPED = {"JSON Schema", "tools", "log-probabilities", "images", "reasoning", "prefill", "caching"}


@pytest.mark.parametrize(("kind", "dialect"), FACTS, ids=[dialect or kind for kind, dialect in FACTS])
def test_a_provider_s_page_has_its_sections_and_models(kind: str, dialect: str) -> None:
    page = (PAGES / f"{dialect or kind}.md").read_text("utf-8")
    assert not [section for section in SECTIONS if f"\n## {section}\n" not in page]
    cells = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert not [word for word in MAPPED if word not in cells]
    assert models_table(kind, dialect) in page


def test_every_page_is_of_a_provider() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {dialect or kind for kind, dialect in FACTS} | {"README"}


def test_kinds_failures_and_statuses_stand_in_the_overview() -> None:
    page = (PAGES / "README.md").read_text("utf-8")
    assert kinds_table() in page
    assert failures_table() in page
    statuses = page.partition("| status |")[2]
    for status, kind in STATUS_KINDS.items():
        (row,) = [line for line in statuses.splitlines() if str(status) in line]
        assert f"`{kind.word}`" in row
