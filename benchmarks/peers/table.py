"""The comparison as Markdown: one row a system, with ratios to the best peer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.results import (
    BURST,
    CALLERS,
    DELAYS,
    FIGURES,
    HALF_P50,
    HALF_P99,
    P50,
    P99,
    Summary,
    best,
)
from benchmarks.peers.systems import System

HEADINGS = {
    BURST: "burst, tasks/s",
    CALLERS: "100 callers, tasks/s",
    P50: "round trip p50, ms",
    P99: "p99, ms",
}
FAILED = "failed"


def comparison(systems: Sequence[System], summaries: dict[str, Summary]) -> str:
    """The table of all that ran: ours first, then peers by throughput, what failed last."""
    peers = [summaries[each.key] for each in systems if _ran(each, summaries, is_ours=False)]
    lines = [
        "| system | " + " | ".join(HEADINGS.values()) + " |",
        "|---|" + "---|" * len(HEADINGS),
    ]
    for system in _in_order(systems, summaries):
        summary = summaries[system.key]
        cells = [_cell(summary, figure, best(peers, figure)) for figure in HEADINGS]
        lines.append(f"| {system.label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def half_load(systems: Sequence[System], summaries: dict[str, Summary]) -> str:
    """Of those that measure it: round trips at half of the rate of 100 callers, and ``delay``.

    The ratio of the latter is to the best peer's 100 callers, who wait for results.
    """
    peers = [summaries[each.key] for each in systems if _ran(each, summaries, is_ours=False)]
    callers = best(peers, CALLERS)
    lines = [
        "| | at half load: p50, ms | p99, ms | 100 callers of `delay`, tasks/s |",
        "|---|---|---|---|",
    ]
    for system in _in_order(systems, summaries):
        figures = summaries[system.key].figures
        if HALF_P50 in figures:
            cells = [_number(figures[HALF_P50]), _number(figures[HALF_P99])]
            if DELAYS in figures and callers is not None:
                ratio = figures[DELAYS] / callers.figures[CALLERS]
                cells.append(f"{_number(figures[DELAYS])} ({_number(ratio)} ×)")
            lines.append(f"| {system.label} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def details(systems: Sequence[System], summaries: dict[str, Summary]) -> str:
    """Of each system its versions, its settings and what went wrong, as a list."""
    lines: list[str] = []
    for system in _in_order(systems, summaries):
        summary = summaries[system.key]
        versions = ", ".join(f"{name} {number}" for name, number in summary.versions.items())
        lines.append(f"- {system.label}: {versions or 'no versions known'}. {summary.settings}")
        lines += [f"  - {problem}" for problem in summary.problems]
    return "\n".join(lines)


def _ran(system: System, summaries: dict[str, Summary], *, is_ours: bool) -> bool:
    return system.key in summaries and system.is_ours is is_ours


def _in_order(systems: Sequence[System], summaries: dict[str, Summary]) -> list[System]:
    ours = [each for each in systems if _ran(each, summaries, is_ours=True)]
    peers = [each for each in systems if _ran(each, summaries, is_ours=False)]
    peers.sort(key=lambda each: -summaries[each.key].figures.get(BURST, -1.0))
    return ours + peers


def _cell(summary: Summary, figure: str, peer: Summary | None) -> str:
    value = summary.figures.get(figure)
    if value is None:
        return FAILED
    if peer is None:
        return _number(value)
    return f"{_number(value)} ({_number(value / peer.figures[figure])} ×)"


def _number(value: float) -> str:
    """Three digits are as many as repeat themselves."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


assert set(HEADINGS) == set(FIGURES)
