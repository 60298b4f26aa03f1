"""`gearshift size`: how many instances of a self-hosted model a workload needs, and what they cost against an API.

Rules: needs no server; the result goes to standard output, everything else to standard error. Figures for planning: one
table for people, `--json` for programs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gearshift.core.errors import RouteError

if TYPE_CHECKING:
    from gearshift.core.catalogue import Model
    from gearshift.core.sizing import Arrival, Instance, Row, Sizing

_EPILOG = """what it does:
  It plays the trace out, request by request: they wait in one line, each slot of each instance serves one at a time.
  From one instance on it looks for the fewest with which 95 of 100 requests wait no longer than --target-p95, and sets
  what these cost a month, busy or idle, against what an API charges for the same tokens.

example:
  A machine for 2.50 USD an hour runs an 8B model: it reads 8,000 prompt tokens and writes 800 tokens a second, 16
  requests at once. Does it pay for the traffic in monday.csv.gz?

  gearshift size --trace monday.csv.gz --prompt-tps 8000 --output-tps 800 --slots 16 --usd-per-hour 2.50 --api gpt-6-luna

  instances   at work   wait p50   p95   p99   a month   pays from
  `pays from` is the number of requests a month above which so many instances are cheaper than the API; `never`, when
  they could not serve as many.

the trace: one request a line, CSV or JSONL, .gz or not; other columns are passed over
  t_s,in_tok,out_tok                                {"t_s": 0.0, "in_tok": 374, "out_tok": 44}
  0.0,374,44                                        {"t_s": 4.3, "in_tok": 396, "out_tok": 109}

where the throughput comes from: a load test of the server (such as `vllm bench serve`), or what this service has seen
of it: --measured ollama/llama3.1:8b --config gearshift.yaml (streamed calls of the ledger; measure under load).

exit codes: 0 done, 1 the trace or the ledger cannot be read, 2 wrong arguments, 3 no number up to --most holds the target"""

_NOT_HELD = 3
_USAGE = 2


class SizeCommand:
    """Sizes a workload."""

    name = "size"
    help = "how many instances a workload needs, and what they cost against an API"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument(
            "--trace", "-t", metavar="FILE", required=True, type=Path, help="the workload: CSV or JSONL"
        )
        one = parser.add_argument_group("one instance, all its slots at work")
        one.add_argument("--prompt-tps", type=_positive, metavar="N", help="prompt tokens that it reads a second")
        one.add_argument("--output-tps", type=_positive, metavar="N", help="tokens that it writes a second")
        one.add_argument("--slots", type=_whole, default=1, metavar="N", help="requests that it runs at once (1)")
        one.add_argument("--usd-per-hour", type=_usd, metavar="USD", help="what it costs, busy or idle")
        one.add_argument("--measured", metavar="PROVIDER/MODEL", help="take the throughput of a slot from the ledger")
        one.add_argument("--config", "-c", metavar="FILE", help="the service's configuration, which names the ledger")
        one.add_argument("--days", type=_positive, default=7.0, metavar="N", help="how far --measured looks back (7)")
        parser.add_argument(
            "--target-p95",
            type=_seconds,
            default=1.0,
            metavar="S",
            help="longest wait of 95 of 100 requests, seconds (1)",
        )
        parser.add_argument("--api", metavar="MODEL", help="compare with this model of the catalogue")
        parser.add_argument(
            "--load",
            type=_positive,
            default=1.0,
            metavar="X",
            help="requests come X times as often as in the trace (1)",
        )
        parser.add_argument(
            "--month-share",
            type=_share,
            default=1.0,
            metavar="X",
            help="part of the month with this load, above 0 to 1 (1); machines cost all of it",
        )
        parser.add_argument("--most", type=_whole, default=1024, metavar="N", help="most instances to try (1024)")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--plot", metavar="FILE.png", help="draw waits and costs as well; needs matplotlib")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Size, and return the exit code."""
        from gearshift.core.sizing import TraceError, read_trace, size

        bar = _Bar()
        try:
            model = _api_model(arguments.api) if arguments.api else None
            if arguments.plot:
                _pyplot()
            instance = _instance(arguments)
            trace = read_trace(arguments.trace, lambda share: bar.show(f"reading {share:.0%}"))
            bar.show("adding up")
            done = size(
                trace,
                instance,
                target_p95_s=arguments.target_p95,
                api_usd=None if model is None else _api_usd(model, trace),
                load=arguments.load,
                month_share=arguments.month_share,
                most=arguments.most,
                progress=lambda instances: bar.show(f"playing {len(trace)} requests on {instances} instances"),
            )
        except _WrongError as error:
            print(f"gearshift size: {error}", file=sys.stderr)
            return _USAGE
        except (TraceError, RouteError) as error:
            print(f"gearshift size: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"gearshift size: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1
        finally:
            bar.clear()
        if arguments.json:
            print(json.dumps(_document(arguments, instance, done), indent=2))
        else:
            print(_table(arguments, instance, done))
        if arguments.plot:
            _plot(arguments, done)
        return 0 if done.needed is not None else _NOT_HELD


COMMAND = SizeCommand()


class _WrongError(Exception):
    """Raised when the arguments do not fit together; says what to change."""


class _Bar:
    """A line on a terminal that is written over; nothing where standard error is none."""

    def __init__(self) -> None:
        self._is_on = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Show how far it is."""
        if self._is_on:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave nothing behind."""
        self.show("")


def _number(read: Callable[[str], float], holds: Callable[[float], bool], text: str) -> float:
    number = read(text)
    if not holds(number):
        raise argparse.ArgumentTypeError(f"{text} is out of range")
    return number


def _positive(text: str) -> float:
    return _number(float, lambda value: 0 < value < 1e12, text)


def _seconds(text: str) -> float:
    return _number(float, lambda value: 0 <= value < 1e9, text)


def _share(text: str) -> float:
    return _number(float, lambda value: 0 < value <= 1, text)


def _whole(text: str) -> int:
    return int(_number(int, lambda value: 1 <= value <= 100_000, text))


def _usd(text: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text} is no amount") from None
    if not (usd.is_finite() and usd >= 0):
        raise argparse.ArgumentTypeError(f"{text} is out of range")
    return usd


def _instance(arguments: argparse.Namespace) -> Instance:
    from gearshift.core.sizing import Instance

    prompt, output, slots = arguments.prompt_tps, arguments.output_tps, arguments.slots
    if arguments.measured:
        if prompt is not None or output is not None:
            raise _WrongError("--measured stands in place of --prompt-tps and --output-tps")
        prompt, output = (each * slots for each in _measured(arguments))
    if prompt is None or output is None:
        raise _WrongError("needs --prompt-tps and --output-tps, or --measured PROVIDER/MODEL")
    return Instance(
        prompt_tokens_per_s=prompt, output_tokens_per_s=output, slots=slots, usd_per_hour=arguments.usd_per_hour
    )


def _measured(arguments: argparse.Namespace) -> tuple[float, float]:
    """Give what one slot read and wrote a second, from the ledger."""
    import time

    from gearshift.core.ledger.opening import configured_store
    from gearshift.core.sizing.measured import LEAST_ATTEMPTS, measured_throughput
    from gearshift.server.app import ledger_path
    from gearshift.server.cli.configured import configured

    blueprint = configured(arguments.config).blueprint
    # A provider's name may hold a slash.
    known = {
        f"{stage.provider.name}/{stage.model.id}": (stage.provider.name, stage.model.id)
        for chain in blueprint.chains.values()
        for stage in chain.stages
    }
    if arguments.measured not in known:
        raise _WrongError(f"--measured: no chain has {arguments.measured}; one of {', '.join(sorted(known)) or 'none'}")
    config = blueprint.config
    if not config.ledger.url and not Path(ledger_path(config)).exists():
        raise _WrongError(f"--measured: there is no ledger at {ledger_path(config)} yet")
    store = configured_store(config.ledger, "" if config.ledger.url else ledger_path(config))
    with store.session() as session:
        found = measured_throughput(session, *known[arguments.measured], time.time() - arguments.days * 86_400)
    if found is None:
        raise _WrongError(
            f"--measured: fewer than {LEAST_ATTEMPTS} streamed answers of {arguments.measured} in {arguments.days:g} days"
        )
    print(
        f"measured on {found.attempts} streamed answers: a slot reads {found.prompt_tokens_per_s:.0f} and writes "
        f"{found.output_tokens_per_s:.1f} tokens a second",
        file=sys.stderr,
    )
    return found.prompt_tokens_per_s, found.output_tokens_per_s


def _api_model(name: str) -> Model:
    """Find a model that has prices, whoever's it is."""
    from gearshift.core.catalogue import Catalogue
    from gearshift.core.config.kinds import KINDS

    catalogue = Catalogue.load()
    found = {model.id: model for kind in KINDS if (model := catalogue.find(kind, name)) is not None}
    if not found:
        near = [each for kind in KINDS for each in catalogue.suggest(kind, name)]
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _WrongError(f"--api: the catalogue has no model {name}{hint}")
    model = next(iter(found.values()))
    if model.prices is None:
        raise _WrongError(f"--api: the price of {model.id} is unknown")
    return model


def _api_usd(model: Model, trace: list[Arrival]) -> Decimal:
    """Give what an API charges for a trace at the prices of now, without any cache."""
    from gearshift.core.answer import Usage
    from gearshift.core.catalogue.money import from_pico, to_pico
    from gearshift.core.plan import token_cost

    now, pico = datetime.now(UTC), 0
    for each in trace:
        cost = token_cost(model, Usage(input_tokens=each.input_tokens, output_tokens=each.output_tokens), now)
        if cost is None:
            raise _WrongError(f"--api: the catalogue has no price of {model.id} for now")
        pico += to_pico(cost)
    return from_pico(pico)


def _document(arguments: argparse.Namespace, instance: Instance, done: Sizing) -> dict[str, object]:
    return {
        "trace": {
            "requests": done.requests,
            "input_tokens": done.input_tokens,
            "output_tokens": done.output_tokens,
            "hours": round(done.hours, 6),
            "load": arguments.load,
        },
        "instance": {
            "prompt_tokens_per_s": instance.prompt_tokens_per_s,
            "output_tokens_per_s": instance.output_tokens_per_s,
            "slots": instance.slots,
            "usd_per_hour": _text(instance.usd_per_hour),
        },
        "target_p95_s": arguments.target_p95,
        "offered_slots": round(done.offered, 3),
        "needed": done.needed,
        "month_requests": done.month_requests,
        "api": None
        if done.api_month_usd is None
        else {"model": arguments.api, "month_usd": _text(done.api_month_usd.quantize(Decimal("0.01")))},
        "rows": [
            {
                "instances": row.instances,
                "holds": row.holds,
                "utilisation": round(row.utilisation, 4),
                "wait_p50_s": round(row.waits.p50_s, 6),
                "wait_p95_s": round(row.waits.p95_s, 6),
                "wait_p99_s": round(row.waits.p99_s, 6),
                "longest_wait_s": round(row.waits.longest_s, 6),
                "month_usd": _text(row.month_usd),
                "break_even_requests": row.break_even,
                "break_even_share": None if row.break_even_share is None else round(row.break_even_share, 4),
            }
            for row in done.rows
        ],
    }


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"


def _table(arguments: argparse.Namespace, instance: Instance, done: Sizing) -> str:
    head = ("instances", "at work", "wait p50", "p95", "p99", "a month", "pays from", "")
    cells = [head, *(_cells(row, done) for row in done.rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    lines = [
        (
            f"{done.requests:,} requests in {_hours(done.hours)}, {done.input_tokens:,} tokens in, "
            f"{done.output_tokens:,} out: {done.month_requests:,} requests a month"
        ),
        f"they keep {done.offered:.1f} slots at work; an instance has {instance.slots}",
        "",
        *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells),
        "",
    ]
    if done.needed is None:
        lines.append(f"no number up to {arguments.most} holds a p95 of {arguments.target_p95:g} s")
        return "\n".join(lines)
    row = next(each for each in done.rows if each.instances == done.needed)
    lines.append(f"needed: {done.needed}, for a p95 wait of at most {arguments.target_p95:g} s")
    if row.month_usd is not None:
        lines.append(f"a month: {row.month_usd:,.2f} USD, busy or idle")
    if done.api_month_usd is not None:
        lines.append(f"{arguments.api}: {done.api_month_usd:,.2f} USD a month for the same tokens, without caches")
    if row.break_even_share is not None:
        told = "cheaper" if row.break_even_share < 1 else "dearer"
        when = (
            f"they pay from {row.break_even:,} requests a month, {row.break_even_share:.0%} of this workload"
            if row.break_even is not None
            else "also at full work"
        )
        lines.append(f"own machines are {told}: {when}")
    return "\n".join(lines)


def _cells(row: Row, done: Sizing) -> tuple[str, ...]:
    waits = row.waits
    return (
        str(row.instances),
        f"{row.utilisation:.0%}",
        _wait(waits.p50_s),
        _wait(waits.p95_s),
        _wait(waits.p99_s),
        "-" if row.month_usd is None else f"{row.month_usd:,.2f} USD",
        "-" if row.break_even_share is None else "never" if row.break_even is None else f"{row.break_even:,}",
        "<- needed" if row.instances == done.needed else "",
    )


def _wait(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:,.0f} s"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _pyplot() -> Any:
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        raise _WrongError("--plot needs matplotlib, which is not installed: pip install 'gearshift[plot]'") from None
    matplotlib.use("Agg")  # draws into files, and needs no display
    return importlib.import_module("matplotlib.pyplot")


def _plot(arguments: argparse.Namespace, done: Sizing) -> None:
    """Draw waits and costs by the number of instances."""
    pyplot = _pyplot()
    numbers = [row.instances for row in done.rows]
    figure, (waits, costs) = pyplot.subplots(1, 2, figsize=(10, 4))
    for label, values in (
        ("p50", [row.waits.p50_s for row in done.rows]),
        ("p95", [row.waits.p95_s for row in done.rows]),
        ("p99", [row.waits.p99_s for row in done.rows]),
    ):
        waits.plot(numbers, values, marker="o", label=label)
    waits.axhline(arguments.target_p95, linestyle="--", color="grey", label="target")
    waits.set(xlabel="instances", ylabel="wait, seconds", yscale="symlog")
    waits.legend()
    costs.plot(numbers, [float(row.month_usd or 0) for row in done.rows], marker="o", label="own machines")
    if done.api_month_usd is not None:
        costs.axhline(float(done.api_month_usd), linestyle="--", color="grey", label=arguments.api)
    costs.set(xlabel="instances", ylabel="USD a month")
    costs.legend()
    figure.tight_layout()
    figure.savefig(arguments.plot, dpi=120)
    print(f"drawn: {arguments.plot}", file=sys.stderr)
