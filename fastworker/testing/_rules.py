"""What the rules of the checker have in common: limits, violations, excuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from fastworker._models import DEFAULT_GRACE
from fastworker.testing._history import Event, Kind
from fastworker.testing._story import Execution, Story, TaskStory, Trouble

# How the ``what`` of a FAULT begins that lets nothing through.
PARTITIONS = ("partition", "unplug")
LOST_WITH_MEMORY = "lost: control plane restarted without a durable store"


@dataclass(frozen=True)
class Expected:
    """What the rules know of a task function.

    Args:
      is_endable: an attempt of it can be ended from outside; that of a thread cannot.
      retries: how often it may fail and be tried again.
      runs_once: it is ``on_lost="fail"``.
      is_poison: it kills its worker, every time.
      fails_with: the error that each attempt of it ends with.
      grace: how long a cancelled attempt may take to stop, in seconds.
      lane: where it runs; empty if that is not known, and then there is one for all.
      retry_delay: how long it waits at least before it is tried again, in seconds.
      is_stream: it gives its values one by one.
    """

    is_endable: bool = False
    retries: int = 0
    runs_once: bool = False
    is_poison: bool = False
    fails_with: str = ""
    grace: float = DEFAULT_GRACE
    lane: str = ""
    retry_delay: float = 0.0
    is_stream: bool = False


UNKNOWN = Expected()


@dataclass(frozen=True)
class Rules:
    """What this run was like.

    Args:
      durable: whether the control plane has a store that outlives it.
      lease: how long a session lives without a frame, in seconds.
      slack: what a busy machine may add to each time limit, in seconds.
      margin: so long before the end of its lease a worker has to stop by itself.
      functions: what is known of task functions, by name.
      has_store: whether the history tells what became durable.
      max_queued: how many tasks that have not ended the control plane takes.
      disk: what the store may take until something is durable, in seconds.
      drain: how long a process may go on that was asked to end, in seconds.
    """

    durable: bool
    lease: float = 30.0
    slack: float = 5.0
    margin: float = 0.0
    functions: Mapping[str, Expected] = field(default_factory=dict)
    has_store: bool = False
    disk: float = 1.0
    max_queued: int = 1_000_000
    drain: float = 30.0

    def of(self, task: TaskStory) -> Expected:
        """What is known of the function of this task."""
        return self.expected(task.name)

    def expected(self, name: str) -> Expected:
        """What is known of a function."""
        return self.functions.get(name, UNKNOWN)


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
    shown = events or (*task.submits, *task.acks, *task.observed[-3:])
    return Violation(invariant, task.id, f"{message} ({task.name})", shown)


def excuses(story: Story, rules: Rules, execution: Execution, until: float) -> list[Trouble]:
    """What was wrong that can have taken this execution's lease from it.

    A fault works on for as long as a lease lasts.
    """
    return story.troubles(execution.process, execution.start.at - rules.lease, until)


def is_forgotten_lease(
    story: Story, rules: Rules, task: TaskStory, execution: Execution, until: float
) -> bool:
    """Whether the control plane has died before this lease was durable.

    Leases run ahead of the store, so the next control plane knows only the one before.
    """
    if not rules.has_store or execution.fence in task.leases:
        return False
    return any(
        trouble.event.kind is Kind.EXIT
        for trouble in story.troubles("", execution.start.at, until)
    )


def may_be_forgotten(story: Story, rules: Rules, task: TaskStory) -> bool:
    since = task.submits[0].at if task.submits else 0.0
    return not rules.durable and any(
        trouble.event.kind is Kind.EXIT for trouble in story.troubles("", since, math.inf)
    )
