"""What a run has found, and what many runs of a system say together. Nothing here does I/O."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

# What the scripts call their figures, and whether more is better.
BURST, CALLERS, P50, P99 = "throughput", "callers", "p50", "p99"
HALF_P50, HALF_P99 = "half load p50", "half load p99"
DELAYS = "acknowledged"  # tasks a second of 100 callers who wait for no result
FIGURES = {BURST: True, CALLERS: True, P50: False, P99: False}


@dataclass
class Run:
    """One run of one system, as far as it came."""

    system: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    error: str | None = None  # why it ended before its time
    seconds: float = 0.0  # from its start to its end

    def take(self, said: dict[str, object]) -> None:
        """Add what the script said in a line; see measuring.py."""
        for name, value in said.items():
            if name == "note":
                self.notes.append(str(value))
            elif name == "versions" and isinstance(value, dict):
                self.versions = value
            elif name == "settings":
                self.settings = str(value)
            elif isinstance(value, int | float):
                self.figures[name] = value


@dataclass(frozen=True)
class Summary:
    """All runs of one system."""

    system: str
    figures: dict[str, float]  # medians; those that no run has are missing
    rounds: int
    problems: list[str]
    versions: dict[str, str]
    settings: str


def summarize(runs: Iterable[Run]) -> dict[str, Summary]:
    """By system, in the order in which they first ran."""
    by_system: dict[str, list[Run]] = {}
    for run in runs:
        by_system.setdefault(run.system, []).append(run)
    return {system: _summary(system, runs) for system, runs in by_system.items()}


def _summary(system: str, runs: list[Run]) -> Summary:
    samples: dict[str, list[float]] = {}
    for run in runs:
        for name, figure in run.figures.items():
            samples.setdefault(name, []).append(figure)
    problems = [
        f"round {run.round}: {problem}"
        for run in runs
        for problem in [*run.notes, *([run.error] if run.error else [])]
    ]
    return Summary(
        system=system,
        figures={name: statistics.median(all_of_it) for name, all_of_it in samples.items()},
        rounds=len(runs),
        problems=problems,
        versions=next((run.versions for run in runs if run.versions), {}),
        settings=next((run.settings for run in runs if run.settings), ""),
    )


def best(summaries: Iterable[Summary], figure: str) -> Summary | None:
    """Who has the best of a figure; None if nobody has it. A rate of 0 is none."""
    have = [summary for summary in summaries if summary.figures.get(figure)]
    if not have:
        return None
    choose = max if FIGURES[figure] else min
    return choose(have, key=lambda summary: summary.figures[figure])
