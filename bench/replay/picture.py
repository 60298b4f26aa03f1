"""The pictures of the page: the only file of this bench that imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.replay.measure import EASY_SHARES, HARD_SHARES
from bench.replay.sweep import CLAIMS, Pairs, between, four
from gearshift.server.replay import Run

_STEPS = 50
_TITLES = {
    "cost": "cost",
    "latency": "mean latency",
    "failures": "failed calls, against a model asked once",
    "quality": "right answers",
}


def draw_mixes(path: Path, sides: Mapping[str, Mapping[str, Pairs]]) -> None:
    """Draw the four figures by the share of easy tasks, a line for each side; `sides` has the calls of each claim."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    shares = [number / _STEPS for number in range(_STEPS + 1)]
    for panel, (claim, promised) in zip(figure.subplots(2, 2).flat, CLAIMS.items(), strict=True):
        for name, by_claim in sides.items():
            values = [four(by_claim[claim], between(EASY_SHARES, HARD_SHARES, share)).get(claim) for share in shares]
            known = [
                (100 * share, 100 * value) for share, value in zip(shares, values, strict=True) if value is not None
            ]
            panel.plot([x for x, _ in known], [y for _, y in known], label=name)
        panel.axhline(100 * promised, linestyle=":", color="black", label=f"the article: {100 * promised:.0f} %")
        panel.axvspan(80, 85, color="grey", alpha=0.2, label="the article's mix")
        panel.set_title(_TITLES[claim])
        if claim == "failures":
            panel.set_ylim(-105, 5)
        panel.set_xlabel("easy tasks, % of the calls")
        panel.set_ylabel("against the strong model alone, %")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


def draw_faults(path: Path, faults: Mapping[float, Sequence[Run]]) -> None:
    """Draw failed calls by the share of requests that fail."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    names = ("the chain", "strong model asked once", "strong model, one retry")
    for number, name in enumerate(names):
        values = [
            100 * sum(bool(each.error) for each in runs[number].ended) / len(runs[number].ended)
            for runs in faults.values()
        ]
        panel.plot([100 * rate for rate in faults], values, marker="o", label=name)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=0.05)
    panel.set_ylim(0, 120)
    panel.xaxis.set_major_formatter(FuncFormatter(_plain))
    panel.yaxis.set_major_formatter(FuncFormatter(_plain))
    panel.set_xlabel("requests that fail at each provider, %")
    panel.set_ylabel("calls without an answer, %")
    panel.legend()
    figure.savefig(path, dpi=110)


def _plain(value: float, _: int) -> str:
    return f"{value:g}"
