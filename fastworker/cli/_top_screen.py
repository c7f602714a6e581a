"""The terminal of ``fastworker top``: draws when there is news, and hears keys."""

from __future__ import annotations

import math
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio
from rich.console import Console, Group
from rich.live import Live

from fastworker.cli._output import speaks_unicode
from fastworker.cli._top_feed import Place, TopFeed
from fastworker.cli._top_state import TopState
from fastworker.cli._top_view import TopView

# More drawings nobody can read; without news, ages go on.
_SECONDS_BETWEEN_DRAWINGS: Final = 0.1
_SECONDS_WITHOUT_NEWS: Final = 1.0
_ENDING_KEYS: Final = frozenset(b"qQ\x03\x04")


def is_screen() -> bool:
    """Whether stdout is a terminal on which something can be drawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


async def watch(place: Place) -> None:
    """Draw what the feed tells until a key ends it.

    Raises:
      as ``TopFeed.run``.
    """
    screen = _Screen()
    feed = TopFeed(place, screen.take, screen.lose)
    with _hearing_keys() as keyboard:
        async with trio.open_nursery() as nursery:
            if keyboard is not None:
                nursery.start_soon(_wait_for_end, keyboard, nursery.cancel_scope)
            nursery.start_soon(screen.note_sizes)
            nursery.start_soon(screen.draw_for_ever)
            await feed.run()


class _Screen:
    def __init__(self) -> None:
        self._state = TopState()
        self._view = TopView(has_unicode=speaks_unicode())
        self._news = trio.Event()

    def take(self, message: Mapping[str, Any]) -> None:
        self._state.take(message, now=time.monotonic())
        self._news.set()

    def lose(self, problem: str) -> None:
        self._state.lose(problem)
        self._news.set()

    async def note_sizes(self) -> None:
        with trio.open_signal_receiver(signal.SIGWINCH) as arrivals:
            async for _ in arrivals:
                self._news.set()

    async def draw_for_ever(self) -> None:
        # rich leaves out the colours only, and for NO_COLOR not even all of its codes.
        console = Console(color_system=None) if os.environ.get("NO_COLOR") else Console()
        # Without a thread, and without what rich does to other output: there is none.
        with Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            drawn_at = -math.inf
            while True:
                with trio.move_on_after(_SECONDS_WITHOUT_NEWS):
                    await self._news.wait()
                await trio.sleep_until(drawn_at + _SECONDS_BETWEEN_DRAWINGS)
                self._news = trio.Event()
                width, height = console.size
                lines = self._view.lines(
                    self._state,
                    width=width,
                    height=height,
                    now=time.monotonic(),
                    wall=time.time(),
                )
                live.update(Group(*lines), refresh=True)
                drawn_at = trio.current_time()


@contextmanager
def _hearing_keys() -> Iterator[int | None]:
    """Have keys come one by one and unseen; None if stdin is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


async def _wait_for_end(keyboard: int, scope: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(keyboard)
        keys = os.read(keyboard, 64)
        if not keys or _ENDING_KEYS.intersection(keys):
            scope.cancel()
            return
