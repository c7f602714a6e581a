"""The options by which tasks are chosen: those of a list, and those to be acted on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fastworker._task_words import PRIORITIES, STATUSES
from fastworker.cli._output import one_line

if TYPE_CHECKING:
    from fastworker._core._stored import TasksAsked

F = TypeVar("F", bound=Callable[..., Any])

_EARLIEST: Final = 1e-3
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[float]):
    """ "90s", "10m", "2h", "7d"; seconds without a unit."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
        if match is None:
            self.fail(f"{value!r}: use a number and a unit, such as 90s, 10m, 2h or 7d")
        return float(match[1]) * _UNITS.get(match[2], 1)


class NameText(click.ParamType[str]):
    """A task's id, a function's or a worker's name. Empty is none: it would mean "all"."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        from fastworker._core._messages import is_name

        if not is_name(value):
            self.fail(f"{one_line(str(value))!r}: it is empty, too long, or no text")
        return str(value)


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which tasks are meant. Empty parts leave a thing open."""

    statuses: tuple[str, ...] = ()
    name: str | None = None
    worker: str | None = None
    priorities: tuple[str, ...] = ()
    last: float | None = None
    older: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all tasks are meant."""
        return self == Filters()

    def question(self, *, now: float, limit: int, before: int = 0) -> TasksAsked:
        """What the control plane is asked. ``now`` is wall time."""
        from fastworker._core._stored import StoredState, TasksAsked

        states = [name for status in self.statuses for name in STATUSES[status]]
        return TasksAsked(
            [StoredState[state] for state in dict.fromkeys(states)],
            self.name or "",
            self.worker or "",
            [PRIORITIES.index(priority) for priority in dict.fromkeys(self.priorities)],
            0.0 if self.last is None else max(0.0, now - self.last),
            # 0 would stand for "at any time", and longer ago than 1970 there was nothing.
            0.0 if self.older is None else max(_EARLIEST, now - self.older),
            before,
            limit,
        )


def filters(*, statuses: tuple[str, ...]) -> Callable[[F], F]:
    """``--status`` and the others."""

    def decorate(function: F) -> F:
        for option in (
            click.option("--older", type=Duration(), help="Only those created longer ago."),
            click.option(
                "--last", type=Duration(), help="Only those created since: 10m, 2h, 7d."
            ),
            click.option(
                "--priority",
                "priorities",
                type=click.Choice(PRIORITIES, case_sensitive=False),
                multiple=True,
                help="Only those of this priority; may be given again.",
            ),
            click.option(
                "--worker",
                type=NameText(),
                metavar="ID",
                help="Only those that this worker ran last.",
            ),
            click.option(
                "--name",
                type=NameText(),
                metavar="NAME",
                help="Only those of this task function.",
            ),
            click.option(
                "--status",
                "statuses",
                type=click.Choice(statuses, case_sensitive=False),
                multiple=True,
                help="Only those in this status; may be given again.",
            ),
        ):
            function = option(function)
        return function

    return decorate


def ago(wall: float, now: float) -> str:
    """How long ago that was, for people."""
    seconds = max(0.0, now - wall)
    for unit, length in reversed(_UNITS.items()):
        if seconds >= length or unit == "s":
            return f"{seconds / length:.0f}{unit}"
    raise AssertionError
