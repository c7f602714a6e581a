"""``--watch``: something is asked again and again, and shown until Ctrl-C.

On a terminal it is redrawn in its place; elsewhere it is printed each time.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastworker.cli._errors import say
from fastworker.cli._output import print_json

if TYPE_CHECKING:
    from rich.live import Live

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# As often as one can read it.
_SECONDS_BETWEEN_LOOKS = 1.0


def watch_option(function: F) -> F:
    """``--watch``."""
    help = "Show it again each second, until Ctrl-C; with --json, a line of JSON each time."
    return click.option("--watch", is_flag=True, help=help)(function)


async def look_again_and_again(
    ask: Callable[[], Awaitable[T]],
    lines_of: Callable[[T], list[str]],
    as_json: Callable[[T], object] | None,
) -> None:
    """Ask and show until cancelled. A control plane that goes away is waited for.

    Args:
      ask: asks the control plane.
      lines_of: the answer for a person.
      as_json: the answer for a program, if that is wanted.
    """
    import trio

    from fastworker._errors import ControlPlaneUnreachable, StoreUnavailable

    with _Screen(in_place=as_json is None and sys.stdout.isatty()) as screen:
        is_away = False
        while True:
            try:
                answer = await ask()
            except (ControlPlaneUnreachable, StoreUnavailable) as error:
                if not is_away:
                    is_store = isinstance(error, StoreUnavailable)
                    why = str(error) if is_store else "the control plane does not answer"
                    say(f"{why}; waiting")
                is_away = True
            else:
                is_away = False
                if as_json is not None:
                    print_json(as_json(answer))
                else:
                    screen.show(lines_of(answer))
            await trio.sleep(_SECONDS_BETWEEN_LOOKS)


class _Screen:
    """Shows lines, either in the place of those before, or below them."""

    def __init__(self, *, in_place: bool) -> None:
        self._live: Live | None = None
        self._is_first = True
        if in_place:
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False, color_system=None)
            # A thread of its own to redraw what has not changed is of no use.
            self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> _Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, lines: list[str]) -> None:
        if self._live is None:
            if not self._is_first:
                click.echo()
            self._is_first = False
            for line in lines:
                click.echo(line)
            return
        from rich.text import Text

        text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)


def in_columns(table: list[tuple[str, ...]]) -> list[str]:
    """Rows with their cells below each other; the last column is as wide as it is."""
    count = len(table[0]) - 1
    widths = [max(len(cells[column]) for cells in table) for column in range(count)]
    lines: list[str] = []
    for cells in table:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        lines.append("  ".join([*padded, cells[-1]]).rstrip())
    return lines
