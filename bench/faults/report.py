"""What was measured, as a page and as a table for the terminal.

Rules: figures stand as they were measured; what another gateway does better, and where Gearshift fails, is worked out
from the figures and printed whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from bench.faults.compare import OWN, Case, Sum, added_ms, better, cases, cell_of, failures, summed
from bench.faults.drive import WAITING
from bench.faults.gateway import FIRST_TOKEN_S, IDLE_S, NAMES
from bench.faults.openai_client import DEADLINE_S
from bench.faults.provider import FIRST_TOKEN_MS, TOKEN_MS
from bench.faults.results import Measured, Results
from bench.faults.score import Cell, Result
from bench.faults.table import NO_FAULT, ROWS
from bench.faults.work import MODES, Mode, answer_tokens

_HEAD = """\
# Fault bench

`make bench-faults` (`python -m bench.faults`) puts gateways through the same faults and writes this page. Two simulated
providers speak the OpenAI format: the first one has the fault in every run, the second is healthy, and each gateway is
told to fall back to it in the way that its own documentation advises. Where the fault strikes is drawn from a seed.
A caller asks in four modes: a text or a JSON document with a schema, as a stream or whole.

An answer is **valid** when it is the whole text of one of the two providers, or a document that fits the schema. Of what
else looked like success to a client of the OpenAI format (status 200, no error, the body ended in order), **truncated** is
the beginning of an answer or nothing at all, and **wrong** is anything else. What the caller was told to be a failure is
an **error**. `direct` is no gateway: a client that asks the first provider itself.
"""
_NOTES = f"""\
## How it is measured

- Answers have {answer_tokens(MODES[0])} (text) and {answer_tokens(MODES[1])} (JSON) tokens, the first after {FIRST_TOKEN_MS} ms, then one every {TOKEN_MS} ms. All timeouts that a gateway
  has for it are {FIRST_TOKEN_S:g} s to the first token and {IDLE_S:g} s between tokens; a caller waits {DEADLINE_S:g} s in all.
- Retries are off and breakers, cooldowns and the like are kept from opening, at every gateway: each run is to meet the
  fault. In production they would spare most callers a fault that lasts, at any of these gateways.
- Everything runs on one machine of two cores that others used too, and not with the same number of calls at once:
  latencies are to be compared within a column of a table, and only roughly between gateways (`docs/performance.md` has
  figures for speed). Where a fault waits, {WAITING} times as many calls go on at once. Added latency is a percentile of the valid answers' latency less the same percentile
  without fault, at the same gateway.
- Tokens wasted are those that the provider bills, input and output, and that are in no valid answer. The simulator bills
  what was generated, as providers do, also for a client that left.
- Spend incurred is the simulator's own account. A record counts as exact when some bill of the batch is the same to
  the last pico-USD; records that their gateway calls estimates are told apart.
- Run it with `--gateways`, `--faults`, `--modes`, `--runs`, `--seed`, `--usage cumulative`; a gateway that is not installed
  under `.bench/` is left out with the command that installs it. Another gateway is one more file in
  `bench/faults/gateways`, named with `--gateways`: it says how it is installed, configured and started.
"""


def as_text(results: Results) -> str:
    """Give the summary, and every case of Gearshift's in which a caller went without a valid answer."""
    lines = _brief(results)
    if (own := results.gateways.get(OWN)) is not None:
        lines += ["", *_failed(own)]
    return "\n".join(lines)


def as_page(results: Results, *, chart: str) -> str:
    """Give the page; `chart` is the name of its picture, empty without one."""
    shown = _shown(results)
    parts = [_HEAD, _measured(shown)]
    parts.append("## In brief\n\nOver all faults that a gateway could have hidden from its caller:\n")
    parts.append("\n".join(_brief(results)) + "\n")
    if chart:
        parts.append(f"![Share of callers with a whole valid answer, for each fault and gateway]({chart})\n")
    parts.append("## What others do better\n\n" + _better(results))
    if (own := results.gateways.get(OWN)) is not None:
        parts.append("## Where Gearshift's callers go without\n\n" + "\n".join(_failed(own)) + "\n")
    parts.append("## Every fault\n\nOf 100 callers, so many got a valid answer; T, W and E: truncated, wrong, error.\n")
    for mode in MODES:
        parts.append(_table(results, mode, f"### {mode.name}", _outcome))
    parts.append("## Added latency\n\np50 / p99 in ms, of valid answers.\n")
    for mode in MODES:
        parts.append(_table(results, mode, f"### {mode.name}, added latency", _latency))
    parts.append("## Tokens wasted\n\nA run, on average.\n")
    for mode in MODES:
        parts.append(_table(results, mode, f"### {mode.name}, tokens wasted", _waste))
    parts.append(_spend(results))
    parts.append("## How each is configured\n")
    for name, one in shown.items():
        parts.append("\n".join([f"**{name}** ({one.version})", "", *(f"- {each}" for each in one.settings), ""]))
    parts.append(_NOTES)
    return "\n".join(parts)


def _measured(shown: Mapping[str, Measured]) -> str:
    titles = ("", "version", "measured (UTC)", "commit of the bench", "runs of each case", "calls at once")
    lines = [_line(titles[0], titles[1:]), "|---|---|---|---|---:|---:|"]
    for name, one in shown.items():
        date = one.date.replace("T", " ")[:16]
        lines.append(_line(name, [one.version, date, one.commit, f"{one.runs:,}", str(one.in_flight)]))
    machines = sorted({one.machine for one in shown.values()})
    seeds = sorted({str(one.seed) for one in shown.values()})
    usage = sorted({one.usage for one in shown.values()})
    told = f"{'; '.join(machines)}; seed {', '.join(seeds)}; the providers count tokens: {', '.join(usage)}."
    return "\n".join([*lines, "", told, ""])


def _shown(results: Results) -> dict[str, Measured]:
    names = [*NAMES, *(name for name in results.gateways if name not in NAMES)]
    return {name: results.gateways[name] for name in names if name in results.gateways}


def _brief(results: Results) -> list[str]:
    shown = _shown(results)
    sums = [summed(one) for one in shown.values()]
    lines = [f"| | {' | '.join(shown)} |", f"|---|{'---:|' * len(shown)}"]
    for mode in MODES:
        lines.append(_line(f"valid answers, {mode.name}", [_share(summed(one, mode)) for one in shown.values()]))
    counts = {
        "truncated answers that looked like success": [_of(each.truncated, each.runs) for each in sums],
        "… of these without a finish reason": [f"{each.noticeable:,}" for each in sums],
        "wrong answers that looked like success": [_of(each.wrong, each.runs) for each in sums],
        "errors": [_of(each.errors, each.runs) for each in sums],
        "runs in which shown text was taken back": [_of(each.retracted, each.runs) for each in sums],
        "tokens wasted a run": [f"{each.wasted / max(1, each.runs):.1f}" for each in sums],
        "spend recorded (with estimates) ÷ incurred": [_recorded(each) for each in sums],
        "records that no bill has": [_known(each, each.unmatched) for each in sums],
        "bills that no record has": [_known(each, each.unrecorded) for each in sums],
    }
    lines += [_line(title, cells) for title, cells in counts.items()]
    for mode in MODES:
        lines.append(_line(f"ms without fault, {mode.name}, p50 / p99", [_usual(one, mode) for one in shown.values()]))
    return lines


def _line(title: str, cells: Iterable[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _share(total: Sum) -> str:
    if not total.runs:
        return "-"
    return "100 %" if total.valid == total.runs else f"{min(99.99, 100 * total.valid / total.runs):.2f} %"


def _of(count: int, runs: int) -> str:
    return f"{count:,} of {runs:,}"


def _recorded(total: Sum) -> str:
    if total.recorded_usd is None or not total.incurred_usd:
        return "records none"
    return f"{(total.recorded_usd + total.estimated_usd) / total.incurred_usd:.4f}"


def _known(total: Sum, count: int) -> str:
    return "records none" if total.recorded_usd is None else f"{count:,}"


def _usual(measured: Measured, mode: Mode) -> str:
    cell = measured.cell(NO_FAULT.name, mode.name)
    return _pair(cell.latency_ms(0.5), cell.latency_ms(0.99)) if cell is not None else "-"


def _pair(first: float | None, second: float | None) -> str:
    return "-" if first is None or second is None else f"{first:.0f} / {second:.0f}"


def _better(results: Results) -> str:
    lines: list[str] = []
    for name in _shown(results):
        if name in (OWN, "direct"):
            continue
        said = better(results, name)
        lines += [f"**{name}**", "", *(f"- {each}" for each in said or ["Nothing beyond the noise of this bench."]), ""]
    return "\n".join(lines)


def _failed(own: Measured) -> list[str]:
    lines: list[str] = []
    for case, cell in failures(own):
        counts = ", ".join(f"{cell.count(result)} {result.value}" for result in Result if cell.count(result))
        example = f" Most often: {next(iter(cell.errors))}" if cell.errors else ""
        aside = "" if case.row.must else " (for information)"
        lines.append(f"- {case}{aside}: {counts} of {cell.runs}.{example}")
    return lines or ["In no case."]


def _table(results: Results, mode: Mode, title: str, tell: Callable[[Measured, Case, Cell], str]) -> str:
    shown = _shown(results)
    lines = [title, "", f"| fault | {' | '.join(shown)} |", f"|---|{'---:|' * len(shown)}"]
    for case in cases(mode):
        told = [(one, cell_of(one, case)) for one in shown.values()]
        cells = [tell(one, case, cell) if cell is not None else "-" for one, cell in told]
        lines.append(f"| {case.row.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _outcome(measured: Measured, case: Case, cell: Cell) -> str:
    letters = ((Result.TRUNCATED, "T"), (Result.WRONG, "W"), (Result.ERROR, "E"))
    rest = " ".join(f"{letter} {_percent(cell.share(result))}" for result, letter in letters if cell.count(result))
    valid = _percent(cell.share(Result.VALID))
    return f"**{valid}**" if not rest else f"{valid} · {rest}"


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _latency(measured: Measured, case: Case, cell: Cell) -> str:
    if case.row is NO_FAULT:
        return f"({_pair(cell.latency_ms(0.5), cell.latency_ms(0.99))} in all)"
    return _pair(added_ms(measured, case, 0.5), added_ms(measured, case, 0.99))


def _waste(measured: Measured, case: Case, cell: Cell) -> str:
    return f"{cell.wasted_tokens / cell.runs:.0f}" if cell.runs else "-"


def _spend(results: Results) -> str:
    parts = [
        "## Spend\n\nUSD a thousand runs, over the four modes. Portkey's open-source gateway and `direct` record none.\n"
    ]
    for name, one in _shown(results).items():
        if summed(one).recorded_usd is None:
            continue
        lines = [
            f"### {name}, spend",
            "",
            "| fault | incurred | recorded | estimated | off by | records that no bill has | bills that no record has |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in ROWS:
            found = [cell for mode in row.modes if (cell := one.cell(row.name, mode.name)) is not None]
            if found:
                lines.append(_spend_row(row.name, found))
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def _spend_row(name: str, found: list[Cell]) -> str:
    runs = sum(cell.runs for cell in found) or 1
    incurred = sum((cell.incurred_usd for cell in found), Decimal(0))
    recorded = sum((cell.recorded_usd or Decimal(0) for cell in found), Decimal(0))
    estimated = sum((cell.estimated_usd for cell in found), Decimal(0))
    told = incurred and (recorded + estimated) / incurred - 1
    off = "exact" if recorded + estimated == incurred else f"{told:+.2%}"
    usd = [f"{each * 1000 / runs:.4f}" for each in (incurred, recorded, estimated)]
    counts = (sum(cell.unmatched for cell in found), sum(cell.unrecorded for cell in found))
    return f"| {name} | {' | '.join(usd)} | {off} | {counts[0]} | {counts[1]} |"
