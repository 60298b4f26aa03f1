"""What `gearshift costs` does on the ledger itself: export, prune, and pricing the past again.

Rules: it opens the store that the configuration names, beside a running service, and never stops one; it prints what it
did. Found by the command line as an entry point of `gearshift.costs`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gearshift.core.errors import LedgerError, RouteError

if TYPE_CHECKING:
    from gearshift.core.blueprint import Blueprint
    from gearshift.core.ledger.reprice import Repriced
    from gearshift.core.ledger.store import Store


class LocalCosts:
    """The half of `gearshift costs` that needs no server."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments."""
        group = parser.add_argument_group("export, prune and --reprice (on the ledger itself)")
        group.add_argument("--config", "-c", metavar="FILE", help="the service's configuration, which names the ledger")
        group.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of an export (csv)")
        group.add_argument("--out", metavar="FILE", help="where an export goes; - is standard output, for CSV alone")
        group.add_argument("--before", type=_day, metavar="DATE", help="prune attempts of UTC days before it")
        group.add_argument("--reprice", action="store_true", help="what the past would have cost at the prices of now")
        group.add_argument(
            "--catalogue", metavar="FILE", help="reprice: prices of this catalogue, not of the package's"
        )
        group.add_argument("--as-of", type=_moment, metavar="TIME", help="reprice: all at the prices of this moment")
        group.add_argument("--apply", action="store_true", help="reprice: also write the new costs beside the old ones")

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        from gearshift.server.cli.serve import failed

        try:
            if arguments.action == "export":
                return _export(arguments)
            if arguments.action == "prune":
                return _prune(arguments)
            return _reprice(arguments)
        except RouteError as error:
            return failed("costs", error)
        except OSError as error:
            print(f"gearshift costs: {error.filename or arguments.out}: {error.strerror}", file=sys.stderr)
            return 1


def _export(arguments: argparse.Namespace) -> int:
    from gearshift.core.ledger.export import exported_pages, write_csv

    if not arguments.out:
        return _wrong("export needs --out FILE")
    since, until = _seconds(arguments.since), _seconds(arguments.until)
    if arguments.out == "-":
        if arguments.format != "csv":
            return _wrong("only CSV goes to standard output")
        write_csv(exported_pages(ledger_store(_blueprint(arguments)), since=since, until=until), sys.stdout)
        return 0
    pages = exported_pages(ledger_store(_blueprint(arguments)), since=since, until=until)
    out = Path(arguments.out)
    # Whole or not at all: nobody should count on half an export.
    part = out.with_name(out.name + ".part")
    try:
        if arguments.format == "csv":
            with part.open("w", encoding="utf-8", newline="") as file:
                written = write_csv(pages, file)
        else:
            try:
                from gearshift.core.ledger.parquet import write_parquet
            except ModuleNotFoundError as error:
                if error.name != "pyarrow":
                    raise
                return _wrong("Parquet needs pyarrow: pip install 'gearshift[parquet]'")
            written = write_parquet(pages, part)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    _say(arguments, {"exported": written, "file": str(out)}, f"{written} attempts in {out}")
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from gearshift.core.ledger.prune import Pruned, prune_some

    if arguments.before is None:
        return _wrong("prune needs --before DATE")
    store, done = ledger_store(_blueprint(arguments)), Pruned()
    while not done.is_last:
        with store.session(writes=True) as session:
            done += prune_some(session, arguments.before.timestamp())
    _say(arguments, {"pruned": done.attempts}, f"{done.attempts} attempts became daily sums")
    return 0


def _reprice(arguments: argparse.Namespace) -> int:
    from gearshift.core.catalogue import Catalogue
    from gearshift.core.ledger.reprice import PriceBook, reprice

    text = Path(arguments.catalogue).read_text("utf-8") if arguments.catalogue else None
    catalogue = Catalogue.load() if text is None else Catalogue.parse(text)
    blueprint = _blueprint(arguments, catalogue)
    done = reprice(
        ledger_store(blueprint),
        PriceBook(blueprint, catalogue),
        since=_seconds(arguments.since),
        until=_seconds(arguments.until),
        as_of=arguments.as_of,
        writes=arguments.apply,
    )
    _say(arguments, _document(done, applied=arguments.apply), _table(done, applied=arguments.apply))
    return 0


def _blueprint(arguments: argparse.Namespace, catalogue: object = None) -> Blueprint:
    from gearshift.core.catalogue import Catalogue
    from gearshift.server.cli.configured import configured

    chosen = catalogue if isinstance(catalogue, Catalogue) else None
    return configured(arguments.config, catalogue=chosen).blueprint


def ledger_store(blueprint: Blueprint) -> Store:
    """Give the store of a configuration's ledger, brought up to date and closed.

    Raises:
        LedgerError: there is none, or it cannot be used.
    """
    from gearshift.core.ledger.opening import configured_store
    from gearshift.server.app import ledger_path

    config = blueprint.config
    if config.ledger.url:
        store = configured_store(config.ledger, "")
    else:
        path = ledger_path(config)
        if path == ":memory:" or not os.path.exists(path):
            raise LedgerError(f"ledger {path}: there is none; --config names the service's configuration")
        store = configured_store(config.ledger, path)
    # Brings an older schema up to date, and refuses a newer one.
    store.open()
    store.close()
    return store


def _document(done: Repriced, *, applied: bool) -> dict[str, object]:
    from gearshift.core.catalogue import usd_text

    def line(keys: dict[str, str], found: object) -> dict[str, object]:
        from gearshift.core.ledger.reprice import RepricedLine

        assert isinstance(found, RepricedLine)
        return {
            **keys,
            "attempts": found.attempts,
            "before_usd": usd_text(found.before_usd),
            "after_usd": usd_text(found.after_usd),
            "newly_priced": found.found,
            "unpriced": found.unpriced,
            "no_longer_priced": found.lost,
        }

    return {
        "applied": applied,
        "rows": [
            line({"provider": provider, "model": model}, found)
            for (provider, model), found in sorted(done.lines.items())
        ],
        "total": line({}, done.total),
        "machines": [
            {
                "provider": provider,
                "before_usd": usd_text(each.before_usd),
                "idle_before_usd": usd_text(each.idle_before_usd),
                "after_usd": None if each.after_usd is None else usd_text(each.after_usd),
                "idle_after_usd": None if each.idle_after_usd is None else usd_text(each.idle_after_usd),
            }
            for provider, each in sorted(done.machines.items())
        ],
    }


def _table(done: Repriced, *, applied: bool) -> str:
    from gearshift.core.catalogue import usd_text

    cells = [("model", "attempts", "cost then", "cost now", "newly priced", "unpriced")]
    named = [(f"{provider}/{model}", line) for (provider, model), line in sorted(done.lines.items())]
    for name, line in [*named, ("all", done.total)]:
        cells.append(
            (
                name,
                str(line.attempts),
                usd_text(line.before_usd),
                usd_text(line.after_usd),
                str(line.found),
                str(line.unpriced),
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    for provider, each in sorted(done.machines.items()):
        then = f"{usd_text(each.before_usd)} then, {usd_text(each.idle_before_usd)} of it idle"
        now = "unknown now"
        if each.after_usd is not None and each.idle_after_usd is not None:
            now = f"{usd_text(each.after_usd)} now, {usd_text(each.idle_after_usd)} of it idle"
        lines.append(f"machines of {provider}: {then}; {now}")
    if done.total.lost:
        lines.append(f"{done.total.lost} attempts had a price and have none now: they keep their cost")
    lines.append(
        "written beside the old costs: gearshift costs --repriced" if applied else "nothing was written: --apply"
    )
    return "\n".join(lines)


def _say(arguments: argparse.Namespace, document: dict[str, object], text: str) -> None:
    print(json.dumps(document, indent=2) if arguments.json else text)


def _wrong(text: str) -> int:
    print(f"gearshift costs: {text}", file=sys.stderr)
    return 2


def _seconds(moment: datetime.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _day(text: str) -> datetime.datetime:
    try:
        found = datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-01") from None
    return datetime.datetime(found.year, found.month, found.day, tzinfo=datetime.UTC)


def _moment(text: str) -> datetime.datetime:
    if text == "now":
        return datetime.datetime.now(datetime.UTC)
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-01, or now") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


COMMAND = LocalCosts()
