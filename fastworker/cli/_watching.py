"""``--watch``: shows an answer of the control plane again whenever it has changed.

At a terminal it is drawn over itself; elsewhere, and as JSON, each one that differs
from the one before comes after it, so that a pipe can be read line by line. A control
plane that goes away is waited for.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fastworker.cli._errors import say
from fastworker.cli._output import one_line, print_json

if TYPE_CHECKING:
    from fastworker._client import Client

# A watcher is told early that nobody answers; it goes on asking all the same.
PATIENCE: Final = 5.0

A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])


def watch_options(command: F) -> F:
    """``--watch`` and ``--interval``."""
    watched = click.option(
        "--watch", is_flag=True, help="Show it again whenever it has changed, until Ctrl-C."
    )
    every = click.option(
        "--interval",
        type=click.FloatRange(0.1, 3600),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="With --watch: how often it is asked for.",
    )
    return watched(every(command))


async def watch(
    client: Client,
    ask: Callable[[], Awaitable[A]],
    as_lines: Callable[[A], list[str]],
    as_object: Callable[[A], Any],
    essence: Callable[[A], object],
    *,
    interval: float,
    as_json: bool,
) -> None:
    """Ask and show until cancelled.

    Args:
      essence: what of an answer has to differ for it to be a change; what only says how
        long ago something was is none.

    Raises:
      ControlPlaneUnreachable: the very first time there was no answer.
    """
    import trio

    from fastworker._errors import ControlPlaneUnreachable, StoreUnavailable

    client.timeout = min(client.timeout, PATIENCE)
    screen = _screen(as_json)
    known: object = None
    lines: list[str] = []
    trouble = ""
    is_first = True
    with ExitStack() as stack:
        if screen is not None:
            stack.enter_context(screen)
        while True:
            begun = trio.current_time()
            try:
                answer = await ask()
            except (ControlPlaneUnreachable, StoreUnavailable) as error:
                if is_first:
                    raise
                if not trouble:
                    trouble = str(error)
                    if screen is None:
                        say(f"{trouble}; waiting for it")
            else:
                trouble = ""
                is_change = is_first or essence(answer) != known
                is_first, known = False, essence(answer)
                if screen is not None:
                    lines = as_lines(answer)
                elif is_change and as_json:
                    print_json(as_object(answer))
                elif is_change:
                    click.echo("\n".join([*map(one_line, as_lines(answer)), ""]))
                sys.stdout.flush()
            if screen is not None:
                screen.draw(lines, trouble)
            await trio.sleep_until(begun + interval)


class _Screen:
    """Lines that are drawn over themselves."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self, lines: list[str], trouble: str) -> None:
        from rich.text import Text

        room = max(1, self._console.height - 2)
        shown = [Text(one_line(line)) for line in lines[:room]]
        if len(lines) > room:
            shown[-1] = Text(f"and {len(lines) - room + 1} more", style="dim")
        if trouble:
            shown.append(Text(one_line(f"{trouble}; waiting for it"), style="bold red"))
        text = Text("\n").join(shown)
        text.no_wrap, text.overflow = True, "ellipsis"
        self._live.update(text, refresh=True)


def _screen(as_json: bool) -> _Screen | None:
    return _Screen() if sys.stdout.isatty() and not as_json else None


def columns(table: list[tuple[str, ...]]) -> list[str]:
    """Rows of texts as lines whose columns are under each other; the last one is as long
    as it is."""
    count = len(table[0]) - 1
    widths = [max(len(cells[column]) for cells in table) for column in range(count)]
    lines: list[str] = []
    for cells in table:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        lines.append("  ".join([*padded, cells[count]]).rstrip())
    return lines
