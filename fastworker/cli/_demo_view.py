"""How the demo looks: a progress bar while it runs, a table at its end."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from fastworker.cli._demo_run import Figures
from fastworker.cli._output import print_json

# As often as one can read it; each drawing costs what ten tasks cost.
_SECONDS_BETWEEN_DRAWINGS: Final = 0.1


class DemoView:
    """The bar goes to stderr if that is a terminal, the figures to stdout.

    Args:
      as_json: show the figures as one line of JSON, not as a table.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._bar = TaskID(0)
        self._drawn_at = 0.0

    def start(self, figures: Figures) -> None:
        """The first task is about to be handed in."""
        console = _console(stderr=True)
        if not console.is_terminal or _is_plain():
            return
        self._progress = Progress(
            TextColumn("hashing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,  # it would need a thread of its own
            transient=True,
        )
        self._bar = self._progress.add_task("", total=figures.tasks, rate="")
        self._stack.enter_context(self._progress)
        self._started_at = time.monotonic()

    def advance(self, figures: Figures) -> None:
        """One more task has ended."""
        now = time.monotonic()
        if self._progress is None or now - self._drawn_at < _SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn_at = now
        rate = figures.ended / max(now - self._started_at, 1e-9)
        self._progress.update(self._bar, completed=figures.ended, rate=f"{rate:,.0f}/s")
        self._progress.refresh()

    def stop(self) -> None:
        """There is nothing more to follow."""
        self._stack.close()

    def show(self, figures: Figures) -> None:
        """Everything has ended."""
        if self._as_json:
            print_json(as_json(figures))
            return
        console = _console()
        console.print(Text(printable(figures.folder)), soft_wrap=True)
        console.print(table(figures))
        for failure in figures.failures:
            console.print(Text(f"failed  {printable(failure)}"), soft_wrap=True)
        hidden = figures.failed - len(figures.failures)
        if hidden:
            console.print(f"and {hidden:,} more failures")
        if figures.unread_folders:
            console.print(f"folders that could not be read: {figures.unread_folders:,}")


def _is_plain() -> bool:
    """Whether the user wants no colours. Bold and moving bars go with them."""
    return bool(os.environ.get("NO_COLOR"))


def _console(*, stderr: bool = False) -> Console:
    # rich leaves out the colours only, and for NO_COLOR not even all of its codes.
    if _is_plain():
        return Console(stderr=stderr, highlight=False, color_system=None)
    return Console(stderr=stderr, highlight=False)


def as_json(figures: Figures) -> dict[str, object]:
    """The figures for a program."""
    return {
        "folder": printable(figures.folder),
        "tasks": figures.tasks,
        "failures": figures.failed,
        "seconds": round(figures.seconds, 6),
        "tasks_per_second": round(_rate(figures), 1),
        "bytes": figures.bytes,
        "lines": figures.lines,
        "by_worker": dict(sorted(figures.by_worker.items())),
        "first_failures": [printable(failure) for failure in figures.failures],
        "unread_folders": figures.unread_folders,
    }


def table(figures: Figures) -> Table:
    """The figures for a person."""
    result = Table(show_header=False)
    result.add_column(style="bold")
    result.add_column(justify="right")
    result.add_row("tasks", f"{figures.tasks:,}")
    result.add_row("failures", f"{figures.failed:,}")
    result.add_row("seconds", f"{figures.seconds:.2f}")
    result.add_row("tasks/s", f"{_rate(figures):,.0f}")
    result.add_row("bytes", f"{figures.bytes:,}")
    result.add_row("lines", f"{figures.lines:,}")
    total = sum(figures.by_worker.values())
    for worker_id, done in sorted(figures.by_worker.items()):
        result.add_row(worker_id, f"{done:,} tasks, {done / (total or 1):.0%}")
    return result


def printable(path: str) -> str:
    """A path that every terminal can show."""
    return path.encode("utf-8", "backslashreplace").decode()


def _rate(figures: Figures) -> float:
    return figures.ended / figures.seconds if figures.seconds and figures.ended else 0.0
