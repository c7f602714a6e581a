"""Runs cases: counts them, measures what they cost, and names the one that came out wrong.

A case depends on the seed, on what it goes to and on its number, and on nothing else but
the cases of the same life before it. So each can be tried again alone.
"""

from __future__ import annotations

import gc
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

MAX_GROWTH: Final = 50.0
MIB: Final = 1024 * 1024
# In so many steps the memory is measured.
_STEPS: Final = 50
# No case takes so long, on whatever machine.
PATIENCE: Final = 60


class Target(Protocol):
    """Something that reads what strangers send.

    ``share`` is how many of a thousand cases go to it. What one case does may matter to the
    ``life`` cases that come together, and to no others.
    """

    name: str
    share: float
    life: int

    def live(self, cases: Iterable[Random]) -> None:
        """Make one case of each of these, and try it.

        Raises:
          Exception: it came out as it must not.
        """
        ...


class Unexpected(Exception):
    """A case came out as it must not; the text says how to try it again."""


@dataclass
class Tally:
    """What the cases of one target have cost."""

    name: str
    cases: int = 0
    seconds: float = 0.0
    growth: float = 0.0  # in MiB, at its largest


@dataclass
class Campaign:
    """Cases of one seed.

    Attributes:
      growth: by how many MiB the process has grown at its largest, since it began.
    """

    seed: int
    tallies: list[Tally] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._before = self._most = resident()

    @property
    def growth(self) -> float:
        return (self._most - self._before) / MIB

    def run(self, target: Target, count: int) -> Tally:
        """Try so many cases.

        Raises:
          Unexpected: one came out as it must not.
        """
        tally = Tally(target.name, count)
        self.tallies.append(tally)
        began, before = time.perf_counter(), resident()
        every = max(1, count // _STEPS)
        for first in range(0, count, target.life):
            last = min(count, first + target.life)
            self._live(target, first, last, every)
            if first % every < target.life:
                self._measure(tally, before)
        gc.collect()
        self._measure(tally, before)
        tally.seconds = time.perf_counter() - began
        return tally

    def replay(self, target: Target, number: int) -> None:
        """Try one case again, after those that may matter to it.

        Raises:
          Unexpected: it came out as it must not.
        """
        self._live(target, number - number % target.life, number + 1, number + 1)

    def _live(self, target: Target, first: int, last: int, every: int) -> None:
        current = first

        def cases() -> Iterator[Random]:
            nonlocal current
            for number in range(first, last):
                current = number
                signal.setitimer(signal.ITIMER_REAL, PATIENCE)
                yield Random(f"{self.seed}/{target.name}/{number}")
                if number % every == 0:
                    self._most = max(self._most, resident())

        old: Any = signal.signal(signal.SIGALRM, _give_up)
        try:
            target.live(cases())
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            single = _single(error)
            notes = "".join(f"; {note}" for note in getattr(single, "__notes__", ()))
            raise Unexpected(
                f"{target.name}, case {current}: {single!r}{notes}; again with: "
                f"python -m tests.fuzz --case '{target.name}' {current} --seed {self.seed}"
            ) from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)

    def _measure(self, tally: Tally, before: int) -> None:
        now = resident()
        self._most = max(self._most, now)
        tally.growth = max(tally.growth, (now - before) / MIB)


def resident() -> int:
    """How many bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _give_up(number: int, frame: object) -> None:
    raise TimeoutError(f"it took more than {PATIENCE} s")


def _single(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
