"""The comparison as a picture: bars on a logarithmic scale, readable on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from benchmarks.peers.results import BURST, CALLERS, P50, P99, Summary
from benchmarks.peers.systems import System

# Which figures are drawn side by side, and in which units.
PANELS = (
    ("burst", BURST, "tasks/s (logarithmic), more is better"),
    ("100 callers", CALLERS, "tasks/s (logarithmic), more is better"),
    ("round trip, p50 to p99", P50, "ms (logarithmic), less is better"),
)
# Of a middle lightness: enough contrast on white and on a dark page.
INK, GRID = "#808890", "#80889040"
OURS, PEER, FAILED = "#2a9d8f", "#8d99ae", "#d1495b"


def draw(systems: Sequence[System], summaries: dict[str, Summary], file: Path) -> None:
    """Write the chart as SVG, with a transparent background and text as text."""
    rows = [system for system in systems if system.key in summaries]
    rows.sort(key=lambda each: summaries[each.key].figures.get(BURST, 0.0))
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "fastworker",  # the same figures, the same file
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": INK,
    }
    with matplotlib.rc_context(style):
        height = 0.8 + 0.32 * len(rows)
        figure, panels = pyplot.subplots(1, 3, sharey=True, figsize=(9.6, height))
        for axes, (title, name, unit) in zip(panels, PANELS, strict=True):
            _draw_panel(axes, [summaries[row.key] for row in rows], rows, name)
            axes.set_title(title, color=INK, fontsize=10)
            axes.set_xlabel(unit)
        panels[0].set_yticks(range(len(rows)), [row.label.replace("`", "") for row in rows])
        figure.tight_layout(pad=0.6)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)


def _draw_panel(axes: Any, summaries: list[Summary], rows: Sequence[System], name: str) -> None:
    axes.set_xscale("log")
    known = [value for each in summaries if (value := each.figures.get(name))]
    floor = min(known, default=1.0) / 2
    reach = max(known, default=1.0)
    if name == P50:
        reach = max(reach, *(each.figures.get(P99, 0.0) for each in summaries))
    for place, (summary, row) in enumerate(zip(summaries, rows, strict=True)):
        value = summary.figures.get(name)
        if not value:
            axes.text(floor * 1.1, place, "failed", va="center", color=FAILED)
            continue
        colour = OURS if row.is_ours else PEER
        end = value
        if name == P50:
            end = max(value, summary.figures.get(P99, value))
            axes.plot([value, end], [place, place], color=colour, linewidth=1.6)
            axes.plot([value], [place], "o", color=colour, markersize=7)
        else:
            axes.barh(place, value - floor, left=floor, height=0.62, color=colour)
        said = (
            f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
        )
        axes.text(end * 1.12, place, said, va="center", fontsize=8)
    axes.set_xlim(floor, reach * 6)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
