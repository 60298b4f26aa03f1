"""The reasons of failed calls: those that the service gives are listed by its clients and by the contract's page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gearshift.core.errors import RouteError

ROOT = Path(__file__).parents[2]
LISTS = {
    "clients/go/errors.go": r'^\tErr\w+ ErrReason = "(\w+)"',
    "clients/web/src/errors.ts": r'^  \| "([A-Z_]+)"',
    "docs/contract.md": r"^\| [A-Z_]+ \| ([A-Z_, ]+) \|",
}
"""Where reasons are listed, and how."""


def of_the_service() -> set[str]:
    found, kinds = set[str](), [RouteError]
    while kinds:
        kind = kinds.pop()
        kinds += [one for one in kind.__subclasses__() if one.__module__.startswith("gearshift.")]
        found |= {kind.reason} - {RouteError.reason}
    return found


@pytest.mark.parametrize("file", LISTS)
def test_a_list_of_reasons_is_the_services(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    listed = [word for cell in re.findall(LISTS[file], text, re.MULTILINE) for word in cell.split(", ")]
    assert len(listed) == len(set(listed))
    assert set(listed) == of_the_service()
