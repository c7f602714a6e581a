"""What must happen in time, once nothing is broken: S12 and the rules with an L."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from fastworker.testing._history import Event, Kind
from fastworker.testing._rules import PARTITIONS, Rules, Violation, may_be_forgotten, violation
from fastworker.testing._story import CONTROL, Execution, Story, TaskStory

# How the ``what`` of an EXIT begins that nobody was told of, as when power is lost.
SILENT = "silent"
PROGRESS_SECONDS = 5.0
RECONNECT_SECONDS = 5.0
RELEASE_SECONDS = 1.0
DELIVERY_SECONDS = 1.0
# What the goodbye of a worker may take.
END_SECONDS = 2.0


def awaits_resolve_once(story: Story, rules: Rules) -> Iterator[Violation]:
    """S12: an await ends exactly once, and soon after the end of the task."""
    for task in story.tasks.values():
        for submit in task.submits:
            if submit.mode == "delay":
                continue
            ends = [
                event
                for event in [*task.outcomes, *task.rejects]
                if (event.pid, event.mode) == (submit.pid, submit.mode)
            ]
            left = [one for one in task.cancels if one.what == "left" and one.pid == submit.pid]
            life = story.life_of(submit.process, submit.at)
            if len(ends) > 1:
                yield violation("S12", task, f"one await ended {len(ends)} times", *ends)
            elif (
                not (ends or left)
                and story.is_settled
                and (life is None or life.until == math.inf)
            ):
                yield violation("S12", task, "its caller waits for ever", submit, *task.acks)
        yield from _delivered_in_time(story, rules, task)


def _delivered_in_time(story: Story, rules: Rules, task: TaskStory) -> Iterator[Violation]:
    by_run = {execution.start.run: execution for execution in task.executions}
    for outcome in task.outcomes:
        made = by_run.get(outcome.run)
        if made is None or made.end is None:
            continue
        limit = DELIVERY_SECONDS + rules.slack
        ready_at = max(made.end.at, *(event.at for event in task.submits))
        if outcome.at - ready_at <= limit:
            continue
        since, until = ready_at - rules.lease, outcome.at
        wrong = story.troubles(outcome.process, since, until)
        if not wrong and not story.troubles(made.process, since, until):
            took = outcome.at - ready_at
            yield violation(
                "S12", task, f"its outcome took {took:.1f} s", *made.events, outcome
            )


def work_goes_on(story: Story, rules: Rules) -> Iterator[Violation]:
    """L1: once faults have ended, no worker idles while tasks are ready."""
    limit = PROGRESS_SECONDS + rules.slack
    for since, until, _ in story.calms():
        starts = sorted(
            execution.start.at
            for task in story.tasks.values()
            for execution in task.executions
            if since <= execution.start.at <= until
        )
        edges = [since, *starts, until]
        for begin, end in pairwise(edges):
            if end - begin <= limit:
                continue
            ready = [
                task
                for task in story.tasks.values()
                if _is_ready(task, begin, end)
                and not may_be_forgotten(story, rules, task)
                and not _may_be_leased(story, rules, task, end - limit)
            ]
            idle = [name for name in sorted(story.workers) if _is_idle(story, name, begin, end)]
            for task in ready[:3] if idle else []:
                yield violation(
                    "L1",
                    task,
                    f"nothing was started for {end - begin:.1f} s although {idle[0]} was idle "
                    f"and {len(ready)} tasks were ready",
                    *task.acks,
                )


def losses_are_noticed(story: Story, rules: Rules) -> Iterator[Violation]:
    """L2: what ran on a worker that died alone, in a calm, starts again at once."""
    for event in story.events:
        is_silent = event.kind is Kind.STOP or event.what.startswith((*PARTITIONS, SILENT))
        if not is_silent and event.kind is not Kind.EXIT:
            continue
        limit = RELEASE_SECONDS + rules.slack + (rules.lease if is_silent else 0.0)
        until = event.at + limit
        others = story.all_troubles(event.at - rules.lease, until)
        if until > story.last_at or any(other.event is not event for other in others):
            continue
        if is_silent and all(other.until < until for other in others):
            continue  # it went on in time
        if not _somebody_is_free(story, event, until):
            continue
        for task in story.tasks.values():
            broken = _broken_by(task, event)
            expected = rules.of(task)
            if broken is None or expected.runs_once or expected.is_poison:
                continue
            again = [one for one in task.executions if event.at < one.start.at <= until]
            told = [one for one in task.endings if event.at < one.at <= until]
            if not again and not told:
                yield violation(
                    "L2",
                    task,
                    f"it was not started again in {limit:.1f} s",
                    *broken.events,
                    event,
                )


def callbacks_arrive(story: Story, rules: Rules) -> Iterator[Violation]:
    """L6: a listener that is there is told of each end, under one id, not too often."""
    for task in story.tasks.values():
        ids = {event.run for event in task.callbacks}
        if len(ids) > 1:
            yield violation("L6", task, "its callback has two ids", *task.callbacks)
        for event in task.callbacks:
            ended = [one for one in task.terminals if one.at <= event.at]
            if not ended and rules.has_store and not may_be_forgotten(story, rules, task):
                yield violation("L6", task, "a callback came before its end was kept", event)
            elif ended and event.status != ended[-1].status:
                yield violation(
                    "L6", task, "its callback tells of another end", ended[-1], event
                )
        if not story.is_settled or not any(one.what == "callback" for one in task.submits):
            continue
        if not task.terminals or task.callbacks or may_be_forgotten(story, rules, task):
            continue
        # What a network drops of what it has taken, no sender of ours hears of.
        ended_at = task.terminals[0].at
        troubles = story.troubles(CONTROL, ended_at, ended_at + rules.slack)
        if not any(trouble.event.what == "messages" for trouble in troubles):
            yield violation("L6", task, "nobody was called back", *task.terminals)


def nothing_is_left(story: Story, rules: Rules) -> Iterator[Violation]:
    """B2: when all is quiet, nobody holds anything of it any more."""
    for event in story.events:
        if event.kind is Kind.REST and event.error:
            yield Violation("B2", "", f"all is quiet, and {event.process} has {event.error}")


def ends_are_orderly(story: Story, rules: Rules) -> Iterator[Violation]:
    """L5: a worker that is told to end starts nothing more, and ends in time."""
    for event in story.events:
        if event.kind is not Kind.TERM:
            continue
        for task in story.tasks.values():
            for execution in task.executions:
                start = execution.start
                if start.pid == event.pid and start.at > event.at + END_SECONDS:
                    yield violation(
                        "L5", task, "it was started on a worker that ends", event, start
                    )
        until = event.at + rules.drain + END_SECONDS + rules.slack
        life = next((one for one in story.lives if one.pid == event.pid), None)
        is_late = life is not None and life.until > until and story.last_at > until
        if is_late and not story.troubles(event.process, event.at - rules.lease, until):
            yield Violation("L5", "", f"{event.process} does not end", (event,))


def peers_come_back(story: Story, rules: Rules) -> Iterator[Violation]:
    """L3: five seconds after the last fault everybody is connected."""
    limit = RECONNECT_SECONDS + rules.slack
    for since, until, _ in story.calms():
        if until < since + limit:
            continue
        for life in story.lives:
            lived = life.since <= since and life.until >= since + limit
            if not lived or not life.links:
                continue
            known = [event for event in life.links if event.at <= since + limit]
            if known and known[-1].what not in ("open", "closed"):
                message = f"{life.process} was not connected {limit:.1f} s after the last fault"
                yield Violation("L3", "", message, tuple(known[-2:]))


def links_hold(story: Story, rules: Rules) -> Iterator[Violation]:
    """L3: once everybody is back and nothing is wrong, no link breaks."""
    limit = RECONNECT_SECONDS + rules.slack
    for since, until, is_settled in story.calms():
        for life in story.lives if is_settled else ():
            if life.pid in story.ending:
                continue
            was_open = False
            for event in life.links:
                is_late = since + limit < event.at < until
                if is_late and was_open and event.what == "down":
                    message = f"the link of {life.process} broke, and nothing was wrong"
                    yield Violation("L3", "", message, (event,))
                was_open = event.what == "open"


def _is_ready(task: TaskStory, since: float, until: float) -> bool:
    """Whether it waited all this time, and was started only then.

    What never started again may have had its end, which nobody was told of; if
    it had none, S2 says so.
    """
    if not task.acks or task.acks[0].at > since:
        return False
    return any(execution.start.at >= until for execution in task.executions) and not any(
        execution.start.at < until and execution.ended_at > since
        for execution in task.executions
    )


def _may_be_leased(story: Story, rules: Rules, task: TaskStory, at: float) -> bool:
    """Whether the control plane came back lately, and gives those time who had its tasks."""
    return any(
        life.process == CONTROL
        and task.submits[0].at < life.since
        and at < life.since + rules.lease
        for life in story.lives
    )


def _is_idle(story: Story, process: str, since: float, until: float) -> bool:
    """Whether this worker was up all this time and ran nothing."""
    life = story.life_of(process, since)
    if life is None or not life.is_up(since, until):
        return False
    return not any(
        execution.process == process
        and execution.start.at < until
        and execution.ended_at > since
        for task in story.tasks.values()
        for execution in task.executions
    )


def _somebody_is_free(story: Story, event: Event, until: float) -> bool:
    """Whether another worker runs nothing all the time: what was lost runs alone at first."""
    others = story.workers - {event.process}
    return any(_is_idle(story, process, event.at, until) for process in others)


def _broken_by(task: TaskStory, event: Event) -> Execution | None:
    for execution in task.executions:
        # The end of an execution without one is that of its process.
        is_cut = execution.end is None or execution.end.at > event.at
        is_here = execution.process == event.process and execution.start.at < event.at
        if is_here and is_cut and execution.ended_at >= event.at:
            return execution
    return None
