"""What must never happen, whatever breaks: the rules with an S.

What only faults can cause (a task that runs twice at the same time, say) is
allowed only where the history has such a fault.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from fastworker.testing._history import Event, Kind
from fastworker.testing._rules import (
    LOST_WITH_MEMORY,
    PARTITIONS,
    Rules,
    Violation,
    excuses,
    is_forgotten_lease,
    may_be_forgotten,
    violation,
)
from fastworker.testing._story import TERMINAL, Execution, Story, TaskStory

POISON = "lost: its worker died"
RESTARTED_STREAM = "lost: the control plane restarted, and values of this stream"
# What a reader is told whose session ended: its stream is over, its task may not be.
LOST_VALUES = "lost: the session with the control plane ended, and values with it"
# The value of an outcome that had to be given up because nobody fetched it in time.
DROPPED = "dropped"
MAX_LOSSES = 3


def acked_tasks_are_kept(story: Story, rules: Rules) -> Iterator[Violation]:
    """S1, and the second half of S2: whoever was acked has ended, and is known."""
    if not story.is_settled:
        return
    for task in story.tasks.values():
        if not task.acks:
            continue
        if not task.observed:
            yield violation("S1", task, "it was acknowledged, and nobody looked for it")
            continue
        last = task.observed[-1]
        if last.status == "unknown":
            if not may_be_forgotten(story, rules, task):
                yield violation("S1", task, "it was acknowledged, and is unknown now")
        elif last.status not in TERMINAL:
            yield violation("S2", task, f"all is quiet, and it is still {last.status}")


def outcomes_agree(story: Story, rules: Rules) -> Iterator[Violation]:
    """S2, S11: all who were told of a task's end were told the same."""
    for task in story.tasks.values():
        told = {
            (event.status, event.run, event.error, event.value)
            for event in task.endings
            if event.value != DROPPED and not event.error.startswith(LOST_VALUES)
        }
        if len(told) > 1 and task.has_key and may_be_forgotten(story, rules, task):
            continue  # whoever submits it again under its key submits it anew
        if len(told) > 1:
            yield violation("S2", task, f"{len(told)} different outcomes", *task.endings)


def outcomes_are_right(story: Story, rules: Rules) -> Iterator[Violation]:
    """S3, S11: an outcome is what an execution returned, or has a good reason."""
    for task in story.tasks.values():
        runs = {execution.start.run: execution for execution in task.executions}
        for event in task.endings:
            if event.status == "success":
                made = runs.get(event.run)
                if made is None:
                    yield violation("S3", task, "no execution made this result", event)
                elif event.digest and made.start.digest != event.digest:
                    yield violation("S11", task, "the result was changed", made.start, event)
                elif event.value not in (made.value, DROPPED):
                    yield violation("S11", task, "the value was changed", *made.events, event)
                expected = rules.of(task)
                if expected.fails_with or expected.is_poison:
                    yield violation("S11", task, "it cannot succeed", event)
            elif event.status in ("cancelled", "expired"):
                if not _may_be_cancelled(story, rules, task, event):
                    yield violation("S11", task, "nobody has cancelled it", event)
            elif event.status == "failure" and not _is_good_reason(story, rules, task, event):
                yield violation("S11", task, "this failure has no reason", event)


def nothing_is_invented(story: Story, rules: Rules) -> Iterator[Violation]:
    """S3: what runs was submitted, by the same name and with the same arguments."""
    for task in story.tasks.values():
        for execution in task.executions:
            start = execution.start
            asked = [event for event in task.submits if event.at <= start.at]
            if not asked:
                yield violation("S3", task, "it started, and nobody had submitted it", start)
            elif start.name != task.name:
                yield violation("S3", task, "another function ran", asked[0], start)
            elif start.digest not in {event.digest for event in asked}:
                yield violation("S1", task, "its arguments were changed", asked[0], start)


def submits_are_idempotent(story: Story, rules: Rules) -> Iterator[Violation]:
    """S4: the same again is the same task; other arguments are a conflict."""
    for task in story.tasks.values():
        answers = Counter((event.pid, event.mode) for event in [*task.acks, *task.rejects])
        for (pid, mode), count in answers.items():
            asked = sum((e.pid, e.mode) == (pid, mode) for e in task.submits)
            if count > asked:
                yield violation("S4", task, f"{asked} submits had {count} answers", *task.acks)
        ran = {execution.start.digest for execution in task.executions}
        # A memory that has forgotten a key takes it for a new task, whatever it asks for.
        is_forgotten = task.has_key and may_be_forgotten(story, rules, task)
        if len(ran) > 1 and not is_forgotten:
            starts = (execution.start for execution in task.executions)
            yield violation("S4", task, "it ran with two sets of arguments", *starts)


def leases_are_used_once(story: Story, rules: Rules) -> Iterator[Violation]:
    """S5: one fence, one execution; and they start in the order of their fences."""
    for task in story.tasks.values():
        by_fence: dict[tuple[int, int], Execution] = {}
        highest: Execution | None = None
        for execution in task.executions:
            other = by_fence.setdefault(execution.fence, execution)
            if other is not execution:
                yield violation(
                    "S5", task, "one lease was executed twice", other.start, execution.start
                )
            if highest is not None and execution.fence < highest.fence:
                if not excuses(story, rules, execution, execution.start.at):
                    yield violation(
                        "S5",
                        task,
                        "an older lease started after a newer one, and nothing was wrong",
                        highest.start,
                        execution.start,
                    )
            else:
                highest = execution


def nothing_runs_twice_at_once(story: Story, rules: Rules) -> Iterator[Violation]:
    """S6 and S7: two executions overlap only after a fault, and not for long."""
    for task in story.tasks.values():
        for number, earlier in enumerate(task.executions):
            for later in task.executions[number + 1 :]:
                at = later.start.at
                if earlier.ended_at <= at:
                    continue
                if not excuses(story, rules, earlier, at):
                    yield violation(
                        "S6",
                        task,
                        "it ran twice at the same time, and nothing was wrong",
                        *earlier.events,
                        *later.events,
                    )
                over = earlier.ended_at - at
                over -= story.stopped(earlier.process, at, earlier.ended_at)
                if rules.of(task).is_endable and over > rules.lease + rules.slack:
                    yield violation(
                        "S7",
                        task,
                        f"it went on for {over:.1f} s after it was leased elsewhere",
                        *earlier.events,
                        *later.events,
                    )


def workers_fence_themselves(story: Story, rules: Rules) -> Iterator[Violation]:
    """S7: who is cut off stops its attempts before the lease can be another's."""
    for event in story.events:
        if event.kind is not Kind.FAULT or not event.what.startswith(PARTITIONS):
            continue
        [cut] = [
            one
            for one in story.troubles(event.process, event.at, event.at)
            if one.event is event
        ]
        life = story.life_of(event.process, event.at)
        for task in story.tasks.values() if life is not None else ():
            if not rules.of(task).is_endable:
                continue
            for execution in task.executions:
                runs = execution.start.at < event.at < execution.ended_at
                if execution.process != event.process or not runs:
                    continue
                end = min(execution.ended_at, cut.until)
                over = end - event.at - story.stopped(event.process, event.at, end)
                if over > rules.lease - rules.margin + rules.slack:
                    yield violation(
                        "S7",
                        task,
                        f"it went on for {over:.1f} s although its worker was cut off",
                        event,
                        *execution.events,
                    )


def old_fences_say_nothing(story: Story, rules: Rules) -> Iterator[Violation]:
    """S8, S2: the outcome is that of the newest lease, and no lease comes after it."""
    for task in story.tasks.values():
        by_run = {execution.start.run: execution for execution in task.executions}
        winners = {event.run for event in task.endings if event.run}
        ended_at = min((event.at for event in task.endings), default=math.inf)
        known = [
            one
            for one in task.executions
            if not is_forgotten_lease(story, rules, task, one, ended_at)
        ]
        newest = max(known, key=lambda one: one.fence, default=None)
        for run in sorted(winners):
            winner = by_run.get(run)
            if winner is None or newest is None:
                continue
            if task.has_key and may_be_forgotten(story, rules, task):
                continue  # its key stood for another task before
            if winner.fence < newest.fence:
                yield violation(
                    "S8",
                    task,
                    "the outcome is of an old lease",
                    *winner.events,
                    newest.start,
                    *task.endings,
                )
        told_at = min((event.at for event in task.endings), default=math.inf)
        for execution in task.executions:
            late = execution.start.at > told_at
            if late and not excuses(story, rules, execution, execution.start.at):
                yield violation(
                    "S2", task, "it started after its end was told", execution.start
                )


def executions_are_bounded(story: Story, rules: Rules) -> Iterator[Violation]:
    """S9: another attempt needs a retry or a fault; poison has three losses, alone."""
    for task in story.tasks.values():
        retries = rules.of(task).retries
        unexplained = 0
        by_fence = sorted(task.executions, key=lambda execution: execution.fence)
        for earlier, later in pairwise(by_fence):
            raised = earlier.end is not None and earlier.end.what == "raise"
            faults = excuses(story, rules, earlier, later.start.at)
            if raised and retries and not faults:
                # With a fault the report of the failure may be lost: no retry is used up.
                retries -= 1
            elif rules.of(task).is_poison:
                # Its own kill is a fault too; the others' are said to be ours.
                unexplained += not any(fault.event.what for fault in faults)
            elif not faults:
                yield violation(
                    "S9",
                    task,
                    "it was started again, and nothing was wrong",
                    *earlier.events,
                    later.start,
                )
        if unexplained > MAX_LOSSES:
            starts = [execution.start for execution in task.executions]
            yield violation(
                "S9", task, f"poison was started again {unexplained} times", *starts
            )
        # What a memory has forgotten is submitted again by whoever had no answer.
        forgotten = may_be_forgotten(story, rules, task)
        if rules.of(task).runs_once and len(task.executions) > 1 and not forgotten:
            starts = [execution.start for execution in task.executions]
            yield violation("S9", task, "an on_lost='fail' task ran twice", *starts)


def _is_good_reason(story: Story, rules: Rules, task: TaskStory, event: Event) -> bool:
    if event.error == LOST_WITH_MEMORY:
        return may_be_forgotten(story, rules, task)
    if rules.of(task).fails_with:
        return event.error == rules.of(task).fails_with
    if any(one.end is not None and one.end.error == event.error for one in task.executions):
        return True
    if event.error.startswith("timed out after"):
        return event.kind is Kind.OUTCOME
    if event.error.startswith(("TaskTimedOut", "expired")):
        return _has_deadline(task)
    if not event.error.startswith("lost:"):
        return False
    if event.error.startswith(LOST_VALUES):
        return any(
            story.troubles(submit.process, submit.at - rules.lease, event.at)
            for submit in task.submits
        )
    since = task.submits[0].at if task.submits else 0.0
    hits = sum(
        bool(excuses(story, rules, execution, event.at)) for execution in task.executions
    )
    if rules.of(task).runs_once or (rules.of(task).is_stream and task.yields):
        return hits > 0 or bool(story.all_troubles(since - rules.lease, event.at))
    if event.error.startswith(POISON):
        # A task may be lost before its function has begun, so count the faults.
        return rules.of(task).is_poison or (
            len(story.all_troubles(since - rules.lease, event.at)) >= MAX_LOSSES
        )
    return False


def _has_deadline(task: TaskStory) -> bool:
    return any("deadline" in submit.what.split() for submit in task.submits)


def _may_be_cancelled(story: Story, rules: Rules, task: TaskStory, event: Event) -> bool:
    """Whether somebody asked for it, or its client may have been taken for gone."""
    if any(cancel.at <= event.at for cancel in task.cancels):
        return True
    if event.status == "expired" and _has_deadline(task):
        return True
    if _has_lost_parent(story, task, event.at):
        return True
    if event.error.startswith(RESTARTED_STREAM) and rules.of(task).is_stream:
        return any(
            trouble.event.kind is Kind.EXIT
            for trouble in story.troubles("", task.submits[0].at, event.at)
        )
    attached = [one for one in task.submits if one.mode != "delay"]
    return event.status == "cancelled" and any(
        story.troubles(submit.process, submit.at, event.at) for submit in attached
    )


def _has_lost_parent(story: Story, task: TaskStory, at: float) -> bool:
    """Whether nobody wants it since an attempt of the task that submitted it has ended."""
    for submit in task.submits:
        parent = story.tasks.get(submit.parent)
        if parent is None:
            continue
        asked = [*parent.cancels, *parent.terminals, *parent.endings]
        if any(event.at <= at for event in asked):
            return True
        if any(execution.ended_at <= at for execution in parent.executions):
            return True
    return False


def children_end_with_their_parent(story: Story, rules: Rules) -> Iterator[Violation]:
    """S10: what a task has submitted is not leased any more once that was cancelled."""
    for task in story.tasks.values():
        parents = {submit.parent for submit in task.submits}
        if parents == {""} or task.has_key or may_be_forgotten(story, rules, task):
            continue
        for parent in [story.tasks[one] for one in parents if one in story.tasks]:
            cancelled = [one for one in parent.terminals if one.status == "cancelled"]
            if not cancelled or len(parents) > 1:
                continue
            for event in task.queue:
                if event.kind is Kind.GIVEN and event.at > cancelled[0].at:
                    yield violation(
                        "S10",
                        task,
                        f"it was leased after task {parent.id}, which has submitted it, "
                        f"was cancelled",
                        cancelled[0],
                        event,
                    )


def nothing_is_told_before_it_is_kept(story: Story, rules: Rules) -> Iterator[Violation]:
    """S1, S2, S19: an acknowledgement needs a durable task, and an outcome a durable end."""
    for task in story.tasks.values():
        if not rules.has_store:
            return
        kept_at = task.kept[0].at if task.kept else math.inf
        ended_at = task.terminals[0].at if task.terminals else math.inf
        for event in task.acks:
            if event.at < kept_at:
                yield violation("S1", task, "it was acknowledged before it was kept", event)
        for event in task.endings:
            if event.at < ended_at and not _is_told_without_a_row(event):
                yield violation("S2", task, "its end was told before it was kept", event)
        if len(task.terminals) > 1 and not may_be_forgotten(story, rules, task):
            yield violation("S2", task, "it ended more than once", *task.terminals)


def ends_are_of_the_newest_lease(story: Story, rules: Rules) -> Iterator[Violation]:
    """S8: an end is what the execution of its own lease has returned or raised."""
    for task in story.tasks.values():
        by_fence = {execution.fence: execution for execution in task.executions}
        for event in task.terminals:
            made = by_fence.get((event.epoch, event.attempt))
            if event.status == "failure":
                raised = [
                    one
                    for one in task.executions
                    if one.end is not None
                    and (one.end.what, one.end.error) == ("raise", event.error)
                ]
                if raised and made not in raised:
                    message = "it failed as an execution did that had another lease"
                    yield violation("S8", task, message, *raised[0].events, event)
            if event.status != "success":
                continue
            if made is None or made.end is None or made.end.at > event.at:
                yield violation(
                    "S8", task, "it succeeded, and nobody with its lease had ended it", event
                )


def _is_given_up(rules: Rules, task: TaskStory, event: Event, end: Event) -> bool:
    """Whether an attempt was abandoned, and has ended after its grace only."""
    asked_at = min((cancel.at for cancel in task.cancels), default=math.inf)
    is_late = end.at >= asked_at + rules.of(task).grace
    return event.error.startswith("abandoned:") and is_late


def completed_tasks_are_not_cancelled(story: Story, rules: Rules) -> Iterator[Violation]:
    """S10: if a cancel and a result race, one of them has won: the one that was true."""
    for task in story.tasks.values():
        by_fence = {execution.fence: execution for execution in task.executions}
        for event in task.terminals:
            made = by_fence.get((event.epoch, event.attempt))
            if event.status != "cancelled" or made is None or made.end is None:
                continue
            if made.end.what != "return" or made.end.at > event.at:
                continue
            if _is_given_up(rules, task, event, made.end):
                continue
            if not excuses(story, rules, made, event.at):
                yield violation(
                    "S10", task, "it had completed, and was cancelled", *made.events, event
                )


def machines_hold(story: Story, rules: Rules) -> Iterator[Violation]:
    """S20, and all else that the machines assert of themselves after each event."""
    for event in story.events:
        if event.kind is Kind.BROKEN:
            where = event.process or "the run"
            name = event.what or "CHECK"
            yield Violation(name, event.task, f"{where} has failed: {event.error}", (event,))


def _is_told_without_a_row(event: Event) -> bool:
    """Whether nobody had to keep this: its task never came, or went with a memory."""
    return event.error == LOST_WITH_MEMORY or event.error.startswith(
        ("timed out after", LOST_VALUES)
    )


def tasks_assert_nothing_wrong(story: Story, rules: Rules) -> Iterator[Violation]:
    """An assertion inside a task is a finding, not an outcome like others."""
    for task in story.tasks.values():
        for execution in task.executions:
            if execution.end is not None and execution.end.error.startswith("AssertionError"):
                yield violation("TASK", task, execution.end.error, *execution.events)
