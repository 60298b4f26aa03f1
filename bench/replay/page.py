"""The page on the article's claims: tables, verdicts and pictures.

Rules: every figure on it comes from one run, and the page says which; words that judge are chosen by the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from bench.common.page import commit, machine
from bench.replay.data import EASY, HARD, MEDIAN_S, SPREAD, TASKS
from bench.replay.measure import ARTICLE, AWAY, EASY_SHARES, FAULT_RATE, HARD_SHARES, MIXES, TARGET, Measured
from bench.replay.sweep import CLAIMS, Four, Pair, Pairs, Shares, between, four, holds, interval, pairs_of, stops_at
from gearshift.core.catalogue.money import usd_text
from gearshift.core.confidence.tuning import Tuning
from gearshift.server.replay import Ended, Run
from gearshift.server.replay.report import Figures, figures, percentile

_NAMES = {
    "cost": "cost -91 %",
    "latency": "mean latency -62 %",
    "failures": "failed requests -97 %",
    "quality": "quality -2 %",
}
_MILLIONTH = Decimal("0.000001")
_SOURCES = """\
| task | answers | cheap | strong | rightness |
| --- | --- | --- | --- | --- |
| classify | AGNEWS, HEADLINES, OVERRULING: averages published by FrugalGPT (Apache-2.0) | gemini-1.5-flash, 0.075 / 0.30 | claude-3.5-sonnet, 3 / 15 | drawn from the averages, each model for itself |
| extract | BFCL function calls (Apache-2.0): real prompts, schemas, right documents | claude-3-haiku, 0.25 / 1.25 | claude-3.5-sonnet's price and time, 3 / 15 | drawn: 96.0 % and 92.5 % (one, several functions) for haiku, 96 % and 95 % for the strong one, the best strong figures published |
| reason | MMLU-Pro (Apache-2.0): recorded texts | gemini-1.5-flash-002, 0.075 / 0.30 | gemini-1.5-pro-002, 1.25 / 5 | recorded |
| math | GSM8K by RouteLLM (Apache-2.0, MIT): recorded texts | Mixtral-8x7B, 0.24 / 0.24 | gpt-4-1106, 24.70 / 24.70 | recorded |"""


def as_text(found: Measured, *, seed: int, seconds: float, quick: bool, is_copy: bool) -> str:
    """Give the whole page."""
    return "\n".join(_lines(found, seed=seed, seconds=seconds, quick=quick, is_copy=is_copy)) + "\n"


def write_page(path: Path, text: str, found: Measured) -> None:
    """Write the page and its pictures beside it."""
    from bench.replay.picture import draw_faults, draw_mixes

    path.write_text(text, encoding="utf-8")
    sides = {
        "cheap first, and up when the gates doubt": {claim: _basis(found, claim)[0] for claim in CLAIMS},
        "hard tasks to the strong model first": {claim: _basis(found, claim)[1] for claim in CLAIMS},
    }
    draw_mixes(path.with_suffix(".png"), sides)
    draw_faults(path.with_name(f"{path.stem}-faults.png"), found.faults)


def as_document(found: Measured, seed: int) -> dict[str, object]:
    """Give the figures for programs."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "claims": dict(CLAIMS),
        "mixes": {
            name: {claim: value.get(claim) for claim in CLAIMS}
            for name, shares in MIXES.items()
            for value in (four(_pairs(found), shares),)
        },
        "stops": {
            name: {claim: stops_at(pairs, EASY_SHARES, HARD_SHARES, claim) for claim in CLAIMS}
            for name, pairs in (("cascade", _pairs(found)), ("strong_first", _strong(found)))
        },
        "failures": {
            str(rate): {run.name: sum(bool(each.error) for each in run.ended) for run in runs}
            for rate, runs in found.faults.items()
        },
    }


def _pairs(found: Measured, baseline: str = "last") -> Pairs:
    chains, *others = found.cascade
    return pairs_of(chains, next(run for run in others if run.name == baseline))


def _strong(found: Measured, baseline: str = "last") -> Pairs:
    return pairs_of(found.strong_first, next(run for run in found.cascade if run.name == baseline))


def _lines(found: Measured, *, seed: int, seconds: float, quick: bool, is_copy: bool) -> Iterator[str]:
    yield "# The article's four claims"
    yield ""
    yield (
        "An article promises that routing each task to the cheapest model that can do it cuts the bill by 91 %, the mean latency by "
        "62 %, failed requests by 97 %, and quality by 2 % only, where 80 to 85 of 100 calls are classification, formatting, "
        "embedding or simple extraction. This page replays recorded answers through the service and says where each of the four "
        "stops."
    )
    yield ""
    yield (
        f"Made by `python -m bench.replay --page` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC in {seconds / 60:.0f} minutes; commit "
        f"{commit()}, seed {seed}; {machine()}."
        + (" **A quick look with few calls, no measurement.**" if quick else "")
        + ("" if is_copy else " On other data than bench/data/replay.")
    )
    yield ""
    own, own_failed = four(_pairs(found), ARTICLE), four(_pairs(found, "last@0"), ARTICLE)
    yield (
        f"On a mix like the article's (83 of 100 easy): cost {_share(own.cost)} where it says -91 %, mean latency {_share(own.latency)} for "
        f"-62 %, failures {_share(own_failed.failures)} for -97 %, right answers {_share(own.quality)} for -2 %."
    )
    yield ""
    yield "## Where each claim stops"
    yield ""
    yield (
        "Mixes between easy tasks alone (two classifications for each extraction) and hard ones alone (five questions of general "
        "knowledge for two of mathematics). *Cascade*: hard tasks too begin at the cheap model and go up when the gates doubt its "
        "answer. *Strong first*: hard tasks go to the strong model at once, as the article has it."
    )
    yield ""
    yield "| claim | cascade: holds at | strong first: holds at | easy tasks alone | hard tasks alone (cascade) |"
    yield "| --- | --- | --- | --- | --- |"
    for claim in CLAIMS:
        pairs, strong = _basis(found, claim)
        easy, hard = four(pairs, EASY_SHARES), four(pairs, HARD_SHARES)
        yield (
            f"| {_NAMES[claim]} | {_where(pairs, claim)} | {_where(strong, claim)} | {_share(easy.get(claim))} | "
            f"{_share(hard.get(claim))} |"
        )
    yield ""
    yield "![The four figures by the share of easy tasks](article-claims.png)"
    yield ""
    yield (
        "Cost, latency and quality are against the strong model of each task, which has the same retries; failures are against that "
        "model asked once, which is how the article's figure of 12 a day reads."
    )
    yield ""
    yield "## Stated mixes"
    yield ""
    yield (
        "In brackets: where 95 of 100 redrawn samples of the same calls fall. **Bold** reaches the article's figure, ✓ with all of the "
        "bracket. *Best single model per task*: the cheap one where it alone gives 98 % of the strong one's right answers. *Oracle*: knows "
        "which answers are right, and asks the strong model only where it alone is, up to the same 98 %."
    )
    yield ""
    yield "| mix | | cost | mean latency | failures | quality |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, shares in MIXES.items():
        told = ", ".join(f"{share:g} {task}" for task, share in shares.items())
        yield f"| {name} ({told}) | cascade | {_cells(found, shares, seed, strong=False)} |"
        yield f"| | strong first | {_cells(found, shares, seed, strong=True)} |"
        yield f"| | best single model per task | {_bare(_fixed(found), shares)} |"
        yield f"| | oracle | {_bare(_oracle(found), shares)} |"
    yield ""
    yield from _checked(found)
    yield ""
    yield "## By task"
    yield ""
    yield (
        "The best single model for a task stands beside the cascade, since it is what a cascade has to beat: a task whose cheap model "
        "is good enough needs no cascade."
    )
    yield ""
    yield from _tasks(found)
    yield ""
    yield from _thresholds(found.tuned)
    yield ""
    yield "## Failures by fault rate"
    yield ""
    yield from _faults(found)
    yield ""
    yield "![Failed calls by the share of requests that fail](article-claims-faults.png)"
    yield ""
    yield "### An outage in one piece"
    yield ""
    yield from _outage(found)
    yield ""
    yield "## How it was measured"
    yield ""
    yield (
        f"{found.calls} calls at the times of a public trace (Azure's conversation service, CC BY 4.0), each to the chains and to every "
        "baseline at the same moment. Each has its own service, ledger and simulated providers, which speak the real formats over HTTP "
        "on loopback and answer with the texts below; gates, routing, retries, breakers and prices are the service's own. Money is "
        f"the ledger's. One call in a hundred was sent more than {_late(found):.0f} ms late. `gearshift replay` does the same with your "
        "traffic: [replay.md](replay.md)."
    )
    yield ""
    yield "Prices are USD for a million tokens, in and out, list prices of the time of the answers."
    yield ""
    yield _SOURCES
    yield ""
    yield "What is assumed, because nobody published it:"
    yield ""
    medians = ", ".join(f"{model} {value:.2f} s" for model, value in MEDIAN_S.items())
    yield (
        f"- **Latency.** A short answer takes its model's median of BFCL (August 2024: {medians}), drawn from a lognormal with a spread "
        f"of {SPREAD}. Longer ones take longer in proportion, with three tenths of the time until the first token at 40 tokens. "
        "gemini-1.5-pro has gpt-4's times and Mixtral flash's. So the claim on latency is tested against published medians, not "
        "against anybody's service of today."
    )
    yield (
        f"- **Faults.** {FAULT_RATE:.0%} of each provider's requests fail, in equal parts with 429, 529, 500 and a reset connection, each "
        "for itself. Real outages come in one piece; one is measured apart."
    )
    if is_copy:
        yield (
            "- **Confidence.** The weights that measure how sure an answer is were trained on data that holds these questions of `reason` "
            "and `math` ([quality.md](quality.md)), so the cascade looks better here than on questions that nobody saw. Cross-validated figures are "
            "on that page. Thresholds were found on other questions than are replayed. `--data DIR` measures data that was "
            "kept back."
        )
    yield (
        "- **Gates see no wrong label.** A label that is one of those asked for, and a document that fits its schema, pass. So easy tasks "
        "are hardly ever escalated here, and their quality is the cheap model's."
    )
    yield (
        "- **Not tested**: embeddings (a single text model gives none, so there is nothing to compare), human ratings (quality is the "
        "share of right answers), and the article's own traffic, which is not public. Prompt caching is not part of any figure."
    )


def _late(found: Measured) -> float:
    """Give how late the latest one in a hundred calls was sent, milliseconds: what this machine adds."""
    return 1000 * (percentile(sorted(each.lag_s for run in found.cascade for each in run.ended), 0.99) or 0.0)


def _basis(found: Measured, claim: str) -> tuple[Pairs, Pairs]:
    """Give the calls that a claim is judged on, with the cascade and with strong models first."""
    baseline = "last@0" if claim == "failures" else "last"
    return _pairs(found, baseline), _strong(found, baseline)


def _where(pairs: Pairs, claim: str) -> str:
    held = stops_at(pairs, EASY_SHARES, HARD_SHARES, claim)
    if held is None:
        best = min if claim != "quality" else max
        values = [value for share in range(0, 101, 5) if (value := _at(pairs, share / 100).get(claim)) is not None]
        return f"no mix (best {_share(best(values))})" if values else "not measured"
    least, most = held
    if least == 0 and most == 1:
        return "every mix"
    if most == 1:
        return f"{least:.0%} easy tasks and more"
    return f"{most:.0%} easy tasks and fewer" if least == 0 else f"{least:.0%} to {most:.0%} easy tasks"


def _at(pairs: Pairs, share: float) -> Four:
    return four(pairs, between(EASY_SHARES, HARD_SHARES, share))


def _cells(found: Measured, shares: Shares, seed: int, *, strong: bool) -> str:
    cells: list[str] = []
    for claim in CLAIMS:
        pairs = _basis(found, claim)[strong]
        value, spread = four(pairs, shares).get(claim), interval(pairs, shares, seed).get(claim)
        told = _share(value)
        told = f"**{told}**" if holds(claim, value) else told
        if spread and holds(claim, spread[0 if claim == "quality" else 1]):
            told += " ✓"
        cells.append(told + (f" [{_share(spread[0])}, {_share(spread[1])}]" if spread else ""))
    return " | ".join(cells)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:+.1f} %"


def _bare(pairs: Pairs, shares: Shares) -> str:
    """Give cells without failures: what is asked alone, or chosen afterwards, has none of its own to compare."""
    found = four(pairs, shares)
    return " | ".join("-" if claim == "failures" else _share(found.get(claim)) for claim in CLAIMS)


def _singles(found: Measured) -> tuple[Mapping[str, list[Ended]], Mapping[str, list[Ended]]]:
    """Give the calls of the cheap and of the strong model alone, by task, in the same order."""
    first, last = (next(run for run in found.cascade if run.name == name) for name in ("first", "last"))
    both = pairs_of(first, last)
    return {task: [one for one, _ in calls] for task, calls in both.items()}, {
        task: [other for _, other in calls] for task, calls in both.items()
    }


def _fixed(found: Measured) -> Pairs:
    cheap, strong = _singles(found)
    made: dict[str, list[Pair]] = {}
    for task in strong:
        weak, best = figures(cheap[task]).quality or 0.0, figures(strong[task]).quality or 0.0
        chosen = cheap[task] if weak >= TARGET * best else strong[task]
        made[task] = list(zip(chosen, strong[task], strict=True))
    return made


def _oracle(found: Measured) -> Pairs:
    """Ask the strong model where it alone is right, the cheapest such calls first, up to the target for each task."""
    cheap, strong = _singles(found)
    made: dict[str, list[Pair]] = {}
    for task, best in strong.items():
        chosen = list(cheap[task])
        missing = TARGET * sum(each.right or 0 for each in best) - sum(each.right or 0 for each in chosen)
        gains = [
            n for n, (one, other) in enumerate(zip(chosen, best, strict=True)) if (other.right or 0) > (one.right or 0)
        ]
        for number in sorted(gains, key=lambda n: (best[n].paid.pico or 0) - (chosen[n].paid.pico or 0)):
            if missing <= 0:
                break
            missing -= (best[number].right or 0) - (chosen[number].right or 0)
            chosen[number] = best[number]
        made[task] = list(zip(chosen, best, strict=True))
    return made


def _checked(found: Measured) -> Iterator[str]:
    chains, last = found.mix
    run = four(pairs_of(chains, last), {task: float(len(calls)) for task, calls in pairs_of(chains, last).items()})
    summed = four(_pairs(found), ARTICLE)
    yield (
        "The figures of a mix are the weighted means of its tasks. As a check the article's mix was run as a whole, "
        f"{len(chains.ended)} calls drawn anew: cost {_share(run.cost)} (summed {_share(summed.cost)}), latency {_share(run.latency)} "
        f"({_share(summed.latency)}), quality {_share(run.quality)} ({_share(summed.quality)})."
    )


_SHOWN = {
    "chains": "the chain",
    "last": "strong model alone",
    "last@0": "strong model, asked once",
    "first": "cheap model alone",
}


def _tasks(found: Measured) -> Iterator[str]:
    yield "| task | served by | calls | USD for 1000 | mean | p50 | p95 | p99 | failed | escalated | right |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for task in TASKS:
        for run in found.cascade:
            each = _of(run, task)
            thousand = usd_text((each.cost_usd * 1000 / max(1, each.calls)).quantize(_MILLIONTH))
            seconds = " | ".join(
                "-" if value is None else f"{value:.2f} s"
                for value in (each.mean_s, each.p50_s, each.p95_s, each.p99_s)
            )
            quality = "-" if each.quality is None else f"{each.quality:.1%}"
            yield (
                f"| {task} | {_SHOWN[run.name]} | {each.calls} | {thousand} | {seconds} | {each.failed} | {each.escalated} | {quality} |"
            )


def _of(run: Run, task: str) -> Figures:
    return figures(each for each in run.ended if each.task == task)


def _thresholds(tuned: Mapping[str, Tuning]) -> Iterator[str]:
    yield f"Thresholds for {TARGET:.0%} of the strong model's right answers, cleared by one standard error:"
    yield ""
    yield "| task | questions | threshold | escalated | cost of strong | quality of strong | cheap alone | oracle |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for task in HARD:
        found = tuned[task]
        weak, strong, *_, oracle = found.beside
        chosen = found.chosen
        threshold = found.refused or "-" if chosen.threshold is None else f"{chosen.threshold:.3f}"
        yield (
            f"| {task} | {found.cases} | {threshold} | {chosen.escalated:.0%} | {chosen.cost / strong.cost:.1%} | "
            f"{chosen.quality / strong.quality:.1%} | {weak.cost / strong.cost:.1%} at {weak.quality / strong.quality:.1%} | "
            f"{oracle.cost / strong.cost:.1%} |"
        )


def _faults(found: Measured) -> Iterator[str]:
    yield (
        "Short classifications, so that many calls fit; two stages at two providers, one retry at each. Requests fail each for itself."
    )
    yield ""
    yield "| requests that fail | calls | strong model asked once | with one retry | the chain | against once | against one retry |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for rate, runs in found.faults.items():
        chains, once, again = (_failed(run) for run in runs)
        yield (
            f"| {rate:.1%} | {len(runs[0].ended)} | {once} | {again} | {chains} | {_against(chains, once)} | {_against(chains, again)} |"
        )
    yield ""
    worse = [rate for rate, (chains, once, _) in found.faults.items() if _failed(chains) > _failed(once)]
    if worse:
        yield (
            f"At {', '.join(f'{rate:.1%}' for rate in worse)} the chain loses more calls than the model alone: so many faults open the "
            "breakers of both its providers (at half of the last 20 outcomes, or 5 in a row). Calls that have nowhere else to go are then let "
            "through one at a time, and the others refused. The single model has no breaker here, as without a gateway."
        )
        yield ""
    held = [rate for rate, runs in found.faults.items() if holds("failures", _less(*map(_failed, runs[:2])))]
    lost = [rate for rate, runs in found.faults.items() if rate not in held and _failed(runs[1])]
    if not held:
        yield "-97 % is reached at none of these rates."
    elif not lost:
        yield f"-97 % against a model asked once is reached at every rate up to {max(held):.1%}."
    else:
        yield (
            f"-97 % against a model asked once is reached at {', '.join(f'{rate:.1%}' for rate in held)}, and not at "
            f"{', '.join(f'{rate:.1%}' for rate in lost)}."
        )


def _outage(found: Measured) -> Iterator[str]:
    yield (
        f"{len(found.outage[0].ended)} short calls; {AWAY} refuses connections for a quarter of the time, nothing else fails. `classify` has "
        "its two stages at two providers, `extract` both at the one that is away."
    )
    yield ""
    yield "| task | calls | strong model asked once | with one retry | the chain | against once |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for task in EASY:
        chains, once, again = (_of(run, task) for run in found.outage)
        told = _against(chains.failed, once.failed)
        yield f"| {task} | {chains.calls} | {once.failed} | {again.failed} | {chains.failed} | {told} |"
    yield ""
    yield (
        "Nothing can save a call while its only provider is away. A breaker that refused it for a fixed time would lose more than a caller "
        "without one, namely those after the provider's return; so calls that have nowhere else to go ask an open breaker's provider all "
        "the same, one at a time and at most half a second apart ([limits.md](limits.md#breakers))."
    )


def _failed(run: Run) -> int:
    return sum(bool(each.error) for each in run.ended)


def _less(to: int, since: int) -> float | None:
    return to / since - 1 if since else None


def _against(to: int, since: int) -> str:
    found = _less(to, since)
    if found is None:
        return "-"
    told = _share(found)
    return f"**{told}**" if holds("failures", found) else told
