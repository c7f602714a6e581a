"""What the rules of the checker have in common: limits, violations, excuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.history import Event, Kind
from tests.chaos.story import Execution, Story, TaskStory, Trouble

# How the ``what`` of a FAULT begins that lets nothing through.
PARTITION = "partition"
LOST_WITH_MEMORY = "lost: control plane restarted without a durable store"


@dataclass(frozen=True)
class Rules:
    """What this run was like.

    Args:
      durable: whether the control plane has a store that outlives it.
      lease: how long a session lives without a frame, in seconds.
      slack: what a busy machine may add to each time limit, in seconds.
    """

    durable: bool
    lease: float = 30.0
    slack: float = 5.0


@dataclass(frozen=True)
class Violation:
    """One broken invariant; ``events`` are what shows it."""

    invariant: str
    task: str
    message: str
    events: tuple[Event, ...] = ()

    def __str__(self) -> str:
        about = f" of task {self.task}" if self.task else ""
        lines = [f"{self.invariant}{about}: {self.message}"]
        return "\n    ".join([*lines, *map(str, self.events)])


Check = Callable[[Story, Rules], Iterator[Violation]]


def violation(invariant: str, task: TaskStory, message: str, *events: Event) -> Violation:
    shown = events or (*task.submits, *task.acks, *task.observed)
    return Violation(invariant, task.id, f"{message} ({task.name})", shown)


def excuses(story: Story, rules: Rules, execution: Execution, until: float) -> list[Trouble]:
    """What was wrong that can have taken this execution's lease from it.

    A fault works on for as long as a lease lasts.
    """
    return story.troubles(execution.process, execution.start.at - rules.lease, until)


def may_be_forgotten(story: Story, rules: Rules, task: TaskStory) -> bool:
    since = task.submits[0].at if task.submits else 0.0
    return not rules.durable and any(
        trouble.event.kind is Kind.EXIT for trouble in story.troubles("", since, math.inf)
    )
