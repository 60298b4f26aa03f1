"""`gearshift costs` on the ledger itself: export, prune, repricing, beside a service that runs; and old rows' pruning."""

from __future__ import annotations

import csv
import json
import time
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from gearshift.clients.cli import main
from gearshift.core.ledger import CostQuery, SqliteLedger
from gearshift.core.ledger.prune import DAY_S
from gearshift.server.recording import retention
from tests.support.ledger_rows import START, attempt, rows

CONFIG = """
version: 1
providers: {{anthropic: {{api_key: "${{KEY}}"}}}}
chains: {{classify: {{stages: [{{provider: anthropic, model: claude-haiku-4-5}}]}}}}
ledger: {{path: {path}}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEY", "none")
    file = tmp_path / "gearshift.yaml"
    file.write_text(CONFIG.format(path=tmp_path / "ledger.db"))

    async def fill() -> None:
        async with SqliteLedger(str(tmp_path / "ledger.db")) as ledger:
            ledger.append(rows("r1", attempt(cost_usd=Decimal("0.25"))))
            ledger.append(rows("r2", attempt(model="claude-haiku-4-5", cost_usd=None, started_at=START + DAY_S)))

    anyio.run(fill)
    return file


def costs(config: Path, *arguments: str) -> int:
    return main(["costs", *arguments, "--config", str(config)])


def test_export_as_csv_and_parquet(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert costs(config, "export", "--out", str(out), "--since", "2026-11-24", "--json") == 0
    assert json.loads(capsys.readouterr().out)["exported"] == 1
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert (row["request_id"], row["cost_usd"]) == ("r2", "")
    assert costs(config, "export", "--out", str(out), "--format", "parquet") == 0
    assert out.read_bytes()[:4] == b"PAR1"
    assert costs(config, "export", "--out", "-") == 0
    assert "r1" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".part")] == []


def test_export_that_cannot_be_written_says_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert costs(config, "export", "--out", "/nowhere/at/all.csv") == 1
    assert "/nowhere/at/all.csv" in capsys.readouterr().err
    assert costs(config, "export") == 2
    assert costs(config, "prune") == 2


def test_repricing_finds_prices_that_were_unknown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert costs(config, "--reprice", "--json") == 0
    before = json.loads(capsys.readouterr().out)
    assert (before["applied"], before["total"]["newly_priced"]) == (False, 1)
    assert costs(config, "--reprice", "--apply") == 0
    assert "newly priced" in capsys.readouterr().out
    assert costs(config, "export", "--out", "-") == 0
    found = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [each["cost_usd"] for each in found] == ["0.25", ""]
    assert [Decimal(each["repriced_usd"]) for each in found] == [
        Decimal(each["after_usd"]) for each in reversed(before["rows"])
    ]


def test_pruning_keeps_the_sums(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert costs(config, "prune", "--before", "2026-11-24", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"pruned": 1}

    async def total() -> Decimal:
        async with SqliteLedger(str(tmp_path / "ledger.db")) as ledger:
            return (await ledger.report(CostQuery())).total.cost_usd

    assert anyio.run(total) == Decimal("0.25")


def test_ledger_that_is_not_there_is_told(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.db").unlink()
    assert costs(config, "export", "--out", "-") == 1
    assert "there is none" in capsys.readouterr().err


async def test_service_prunes_what_is_older_than_it_keeps() -> None:
    async with SqliteLedger(":memory:") as ledger:
        ledger.append(rows("old", attempt(started_at=time.time() - 40 * DAY_S)))
        ledger.append(rows("new", attempt(started_at=time.time())))
        await ledger.flush()
        async with retention(ledger, 30):
            with anyio.fail_after(10):
                while (await ledger.prune(time.time() - 30 * DAY_S)).attempts or await singles(ledger) != 1:
                    await anyio.sleep(0.01)
        assert (await ledger.report(CostQuery())).total.attempts == 2


async def singles(ledger: SqliteLedger) -> int:
    def count() -> int:
        with ledger._store.session() as session:  # pyright: ignore[reportPrivateUsage]
            return int(str(session.rows("SELECT COUNT(*) FROM attempts")[0][0]))

    return await anyio.to_thread.run_sync(count)
