"""The picture of `gearshift replay`. The only file of it that imports matplotlib, and only when one is asked for."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gearshift.server.replay.report import ALL, Figures, Table, title


def plot(path: Path, table: Table) -> None:
    """Draw cost, latency, failures and quality by task, a bar for each run.

    Raises:
        OSError: the file cannot be written.
    """
    tasks = list(next(iter(table.values())))
    tasks = [task for task in tasks if task != ALL or len(tasks) != 2]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [panel for row in figure.subplots(2, 2, squeeze=False) for panel in row]
    width = 0.8 / len(table)
    for panel, (name, value) in zip(panels, _PANELS, strict=True):
        for number, (run, found) in enumerate(table.items()):
            places = [place + (number - (len(table) - 1) / 2) * width for place in range(len(tasks))]
            panel.bar(places, [value(found[task]) for task in tasks], width, label=title(run))
        panel.set_xticks(range(len(tasks)), tasks)
        panel.set_title(name)
        panel.set_ylim(bottom=0)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(table))  # pyright: ignore[reportUnknownMemberType]
    figure.savefig(path, dpi=120)  # pyright: ignore[reportUnknownMemberType]


def _thousand(each: Figures) -> float:
    return float(each.cost_usd) / each.calls * 1000 if each.calls else 0.0


def _seconds(each: Figures) -> float:
    return each.mean_s or 0.0


def _failures(each: Figures) -> float:
    return 100 * (each.failure_rate or 0.0)


def _quality(each: Figures) -> float:
    return 100 * (each.quality or 0.0)


_PANELS = (
    ("cost, USD for a thousand calls", _thousand),
    ("mean latency, seconds", _seconds),
    ("failed calls, %", _failures),
    ("right answers, %", _quality),
)
