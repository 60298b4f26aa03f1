"""The pages that the service ships are what their sources give, and their types hold."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.node_packages import node_of, run

HOME = Path(__file__).parents[2] / "server/pages"
CLIENT = Path(__file__).parents[2] / "clients/web"
SHIPPED = Path(__file__).parents[2] / "server/gearshift/server/web/pages"
MOST_BYTES = 400_000


def test_the_pages_are_what_their_sources_give() -> None:
    node_of(CLIENT)  # whose sources the pages are bundled with
    node = node_of(HOME)
    run(HOME, node, "node_modules/typescript/bin/tsc", "--noEmit")
    run(HOME, node, "tools/bundle.js", "--check")


def test_pages_stay_small_and_name_what_they_are_made_of() -> None:
    for name in ("chat.js", "ops.js"):
        text = (SHIPPED / name).read_text("utf-8")
        assert len(text) < MOST_BYTES
    assert "@license" in (SHIPPED / "chat.js").read_text("utf-8")


def test_the_lock_file_of_the_pages_names_no_registry() -> None:
    locked = json.loads((HOME / "package-lock.json").read_text())
    assert not [name for name, package in locked["packages"].items() if "resolved" in package]
