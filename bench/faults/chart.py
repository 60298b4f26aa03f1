"""The chart: of each fault, mode and gateway, how many callers got a valid answer.

Rules: matplotlib lives in an environment of its own, so this file runs there as a script and imports nothing of the
project: `.bench/chart/bin/python bench/faults/chart.py RESULTS.json OUT.png`. Without that environment there is no chart.
"""

# pyright: basic
# matplotlib is not installed where types are checked.
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = _ROOT / ".bench/chart/bin/python"
_INSTALL = "python3 -m venv .bench/chart && .bench/chart/bin/pip install 'matplotlib==3.10.*'"
_ORDER = ("gearshift", "litellm", "portkey", "direct")
_MODES = ("text stream", "JSON stream", "text unary", "JSON unary")
_SILENT = ("truncated", "wrong")


def draw(results: Path, picture: Path) -> str:
    """Draw; give a sentence on what came of it."""
    if not _PYTHON.exists():
        return f"no chart is drawn, since matplotlib is not installed; to install it:\n  {_INSTALL}"
    command = [str(_PYTHON), __file__, str(results), str(picture)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if ran.returncode:
        return f"no chart is drawn: {ran.stderr.strip()[-300:]}"
    return f"drew {picture}"


def _figure(gateways: dict[str, Any], picture: Path) -> None:
    import matplotlib  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # pyright: ignore
    from matplotlib.colors import LinearSegmentedColormap  # type: ignore[import-not-found] # pyright: ignore

    names = [name for name in [*_ORDER, *(set(gateways) - set(_ORDER))] if name in gateways]
    faults: list[str] = []
    for name in names:
        faults += [fault for fault in gateways[name]["cells"] if fault not in faults]
    colours = LinearSegmentedColormap.from_list("valid", ["#b2182b", "#f4a582", "#fdfdc8", "#a6d96a", "#1a7837"])
    colours.set_bad("#eeeeee")
    figure, panels = pyplot.subplots(1, len(_MODES), figsize=(13.5, 0.29 * len(faults) + 2.2), sharey=True)
    for mode, panel in zip(_MODES, panels, strict=True):
        cells = [[gateways[name]["cells"].get(fault, {}).get(mode) for name in names] for fault in faults]
        shares = [[_share(cell, "valid") for cell in row] for row in cells]
        panel.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
        for at, row in enumerate(cells):
            for column, cell in enumerate(row):
                if cell is not None and cell["runs"]:
                    share = _share(cell, "valid")
                    dark = share < 0.15 or share > 0.85
                    panel.text(
                        column, at, _told(cell), ha="center", va="center", fontsize=7, color="w" if dark else "k"
                    )
        panel.set_title(mode, fontsize=10)
        panel.set_xticks(range(len(names)), names, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
        panel.set_xticks([each - 0.5 for each in range(1, len(names))], minor=True)
        panel.set_yticks([each - 0.5 for each in range(1, len(faults))], minor=True)
        panel.grid(which="minor", color="w", linewidth=1.2)
        panel.tick_params(which="both", length=0)
    panels[0].set_yticks(range(len(faults)), faults, fontsize=8)
    figure.suptitle("Of 100 callers, so many got a whole valid answer", fontsize=12, y=0.995)
    note = (
        "! behind a figure: the others were given a truncated or wrong answer that looked like success (else an error)"
    )
    figure.text(0.5, 0.008, note, ha="center", fontsize=8)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(picture, dpi=110, metadata={"Software": None})


def _share(cell: dict[str, Any] | None, result: str) -> float:
    return cell["results"].get(result, 0) / cell["runs"] if cell is not None and cell["runs"] else float("nan")


def _told(cell: dict[str, Any]) -> str:
    valid = 100 * _share(cell, "valid")
    shown = "100" if valid == 100 else f"{min(valid, 99.9):.1f}" if valid > 99 else f"{valid:.0f}"
    return shown + (" !" if any(cell["results"].get(each) for each in _SILENT) else "")


if __name__ == "__main__":
    _figure(json.loads(Path(sys.argv[1]).read_text("utf-8"))["gateways"], Path(sys.argv[2]))
