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
DRAIN = "drain"
FAREWELL_SECONDS = 2.0
DELIVERY_SECONDS = 1.0


def awaits_resolve_once(story: Story, rules: Rules) -> Iterator[Violation]:
    """S12: an await ends exactly once, and soon after the end of the task."""
    for task in story.tasks.values():
        for submit in task.submits:
            if submit.mode == "delay":
                continue
            who = submit.pid, submit.mode
            ends = [
                one for one in [*task.outcomes, *task.rejects] if (one.pid, one.mode) == who
            ]
            # Under one key one client may wait several times, one after the other.
            awaits = sum((one.pid, one.mode) == who for one in task.submits)
            left = [one for one in task.cancels if one.what == "left" and one.pid == submit.pid]
            if len(ends) > awaits:
                message = f"{awaits} awaits ended {len(ends)} times"
                yield violation("S12", task, message, *ends)
            elif (
                not left
                and len(ends) < awaits
                and story.is_settled
                and _is_waited_for(story, submit)
            ):
                yield violation("S12", task, "its caller waits for ever", submit, *task.acks)
        yield from _delivered_in_time(story, rules, task)


def _is_waited_for(story: Story, submit: Event) -> bool:
    """Whether whoever has submitted this lives, and is still there to wait."""
    life = story.life_of(submit.process, submit.at)
    if life is not None and life.until < math.inf:
        return False
    # A client is closed when nobody calls any more.
    if life is not None and life.links and life.links[-1].what == "closed":
        return False
    parent = story.tasks.get(submit.parent)
    return parent is None or not any(
        execution.start.pid == submit.pid and execution.end is not None
        for execution in parent.executions
    )


def _delivered_in_time(story: Story, rules: Rules, task: TaskStory) -> Iterator[Violation]:
    by_run = {execution.start.run: execution for execution in task.executions}
    for outcome in task.outcomes:
        made = by_run.get(outcome.run)
        if made is None or made.end is None:
            continue
        limit = DELIVERY_SECONDS + rules.slack
        # From when it may be told: what a slow disk takes is not the delivery's.
        kept = [event.at for event in task.terminals if event.at <= outcome.at]
        took = min(kept, default=made.end.at) - made.end.at
        if took > DELIVERY_SECONDS + rules.disk and not story.troubles(
            made.process, made.end.at - rules.lease, outcome.at
        ):
            yield violation("S12", task, f"it took {took:.1f} s to keep its end", *made.events)
        ready_at = max(made.end.at, *(event.at for event in task.submits), *kept)
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
        if not _somebody_is_free(story, event, until - rules.slack):
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
            was_open = False
            for event in life.links:
                is_late = since + limit < event.at < until
                if is_late and was_open and event.what == "down":
                    message = f"the link of {life.process} broke, and nothing was wrong"
                    yield Violation("L3", "", message, (event,))
                was_open = event.what == "open"


def drained_processes_end(story: Story, rules: Rules) -> Iterator[Violation]:
    """L5: who is asked to end takes nothing new, and has ended when its time is over."""
    drains = [e for e in story.events if e.kind is Kind.FAULT and e.what == DRAIN]
    for event in drains:
        name = event.process
        heard_at = event.at + RELEASE_SECONDS + rules.slack
        limit = rules.drain + FAREWELL_SECONDS + rules.slack
        over_at = event.at + limit
        life = story.life_of(name, event.at)
        if life is None:
            continue
        others = story.troubles(name, event.at - rules.lease, min(life.until, over_at))
        if any(one.event is not event and one.event.what != "drained" for one in others):
            continue
        if min(life.until, story.last_at) > over_at:
            message = f"{name} was asked to end, and was still there {limit:.1f} s later"
            yield Violation("L5", "", message, (event,))
        for task in story.tasks.values():
            for execution in task.executions:
                is_here = execution.start.pid == life.pid
                if is_here and execution.start.at > event.at:
                    message = f"{name} was asked to end, and has started it"
                    yield violation("L5", task, message, event, execution.start)
            for given in task.queue:
                is_here = name in (given.what, given.process)
                if given.kind is Kind.GIVEN and is_here and heard_at < given.at <= life.until:
                    yield violation(
                        "L5", task, f"{name} drains, and was leased it", event, given
                    )


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


def _somebody_is_free(story: Story, event: Event, at: float) -> bool:
    """Whether another worker runs nothing long then: what was lost runs alone at first."""
    busy = {
        execution.process
        for task in story.tasks.values()
        for execution in task.executions
        if execution.start.at <= at and execution.ended_at > at + RELEASE_SECONDS
    }
    return any(
        life.process not in busy | {event.process} and life.since <= at <= life.until
        for life in story.lives
        if life.process in story.workers
    )


def _broken_by(task: TaskStory, event: Event) -> Execution | None:
    for execution in task.executions:
        # The end of an execution without one is that of its process.
        is_cut = execution.end is None or execution.end.at > event.at
        is_here = execution.process == event.process and execution.start.at < event.at
        if is_here and is_cut and execution.ended_at >= event.at:
            return execution
    return None
