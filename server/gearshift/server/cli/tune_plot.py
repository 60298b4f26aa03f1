"""The picture of `gearshift tune`: cost against quality. The only file that imports matplotlib, and only when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gearshift.core.confidence.tuning import Tuning

_MARKS = ("v", "^", "D", "x", "*")


def plot(path: Path, tuned: Mapping[str, Tuning]) -> None:
    """Write one panel for each task type."""
    figure = Figure(figsize=(6.4 * len(tuned), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tuned), squeeze=False)[0]
    for panel, (name, found) in zip(panels, tuned.items(), strict=True):
        strong = found.beside[1]
        cost = strong.cost or 1.0
        panel.plot([each.cost / cost for each in found.curve], [each.quality for each in found.curve], label="cascade")
        for mark, each in zip(_MARKS, found.beside, strict=True):
            panel.plot([each.cost / cost], [each.quality], mark, linestyle="none", label=each.name)
        panel.axhline(found.target * strong.quality, linewidth=0.8, linestyle=":", color="grey")
        panel.plot(
            [found.chosen.cost / cost], [found.chosen.quality], "o", fillstyle="none", markersize=12, label="chosen"
        )
        panel.set_title(f"{name}: {found.cases} outcomes")
        panel.set_xlabel("cost, of always asking the strongest")
        panel.set_ylabel("share of right answers")
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=120)  # pyright: ignore[reportUnknownMemberType]
