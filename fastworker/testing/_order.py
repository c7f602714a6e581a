"""In which order things must happen: S14, S15, S17 and S19."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from fastworker.testing._history import Event, Kind
from fastworker.testing._rules import (
    Rules,
    Violation,
    excuses,
    may_be_forgotten,
    violation,
)
from fastworker.testing._story import CONTROL, Story, TaskStory

# So long may a task have been ready before one that is behind it is handed out.
DISPATCH_SECONDS = 0.05
TIMER_SECONDS = 0.05


def the_first_goes_first(story: Story, rules: Rules) -> Iterator[Violation]:
    """S14, S15: a free slot gets the most urgent task, and of those the oldest.

    Judged are first attempts: what comes back has its place from before. What is leased
    ahead of a free slot is no order; nor is what a restart or a leaving caller mixes up.
    """
    assigned = [event for event in story.events if event.kind is Kind.ASSIGN]
    if not assigned:
        return
    waiting = [task for task in story.tasks.values() if _is_plain(story, rules, task)]
    for event in assigned:
        task = story.tasks[event.task]
        # One that must not run twice goes out when its lease is durable: later than its turn.
        if event.attempt != 1 or not task.kept or rules.of(task).runs_once:
            continue
        if not _takes_a_free_slot(story, rules, event):
            continue
        lane = rules.of(task).lane
        for other in waiting:
            if other is task or rules.of(other).lane != lane:
                continue
            kept = other.kept[0]
            if not _waited(other, event, kept.at + DISPATCH_SECONDS):
                continue
            if kept.priority < event.priority:
                broken = "S14"
            elif kept.priority == event.priority and kept.at < task.kept[0].at:
                broken = "S15"
            else:
                continue
            if not story.ended(CONTROL, kept.at, event.at):
                message = f"it was handed out before {other.id}"
                yield violation(broken, task, message, kept, *task.kept, event)


def _is_plain(story: Story, rules: Rules, task: TaskStory) -> bool:
    """Whether nothing but its turn can keep a task from being handed out."""
    if not task.kept or rules.of(task).runs_once:
        return False
    if any(submit.what == "deadline" for submit in task.submits):
        return False
    return not any(story.all_troubles(one.at, one.at) for one in task.submits)


def _waited(task: TaskStory, event: Event, ready_at: float) -> bool:
    """Whether a task was ready for long when another was handed out, and was not itself."""
    first_at = task.assigned[0].at if task.assigned else math.inf
    gone = [*task.cancels, *task.terminals, *task.rejects]
    gone_at = min((one.at for one in gone), default=math.inf)
    return ready_at <= event.at < min(first_at, gone_at)


def _takes_a_free_slot(story: Story, rules: Rules, event: Event) -> bool:
    lane = rules.of(story.tasks[event.task]).lane
    held = 0
    for task in story.tasks.values():
        if rules.of(task).lane != lane or task.id == event.task:
            continue
        for lease in task.assigned:
            if lease.what == event.what and lease.at <= event.at:
                held += task.lease_ended_at(lease) >= event.at
    return held < rules.slots


def retries_wait(story: Story, rules: Rules) -> Iterator[Violation]:
    """S17: an attempt after a failure does not start before its time."""
    for task in story.tasks.values():
        for earlier, later in pairwise(task.executions):
            end = earlier.end
            if end is None or end.what != "raise" or later.fence != _next(earlier.fence):
                continue
            if excuses(story, rules, earlier, later.start.at):
                continue  # it may have been taken from a worker that was lost
            waited = later.start.at - end.at
            if waited < rules.of(task).retry_delay - TIMER_SECONDS:
                message = f"it was tried again after {waited:.2f} s"
                yield violation("S17", task, message, end, later.start)


def _next(fence: tuple[int, int]) -> tuple[int, int]:
    return fence[0], fence[1] + 1


def states_follow_their_path(story: Story, rules: Rules) -> Iterator[Violation]:
    """S19, S5: a durable task is kept, leased under growing fences, and ends; in this order."""
    if not rules.has_store:
        return
    for task in story.tasks.values():
        if may_be_forgotten(story, rules, task):
            continue
        fence, has_ended = (0, 0), False
        for event in task.durable:
            if event.kind is Kind.KEPT and event is not task.durable[0]:
                yield violation("S19", task, "it was kept twice", *task.durable)
            elif has_ended:
                yield violation("S19", task, "something came after its end", *task.durable)
            elif event is task.durable[0] and event.kind is not Kind.KEPT:
                yield violation("S19", task, "it was never kept", *task.durable)
            elif event.kind is Kind.LEASED and (event.epoch, event.attempt) <= fence:
                yield violation("S5", task, "its fence has not grown", *task.durable)
            else:
                has_ended = event.kind is Kind.TERMINAL
                fence = max(fence, (event.epoch, event.attempt))
                continue
            break
