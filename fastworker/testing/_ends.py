"""What is told of ends and values to those who are not waiting in a call: L6, and streams.

Listeners hear of ends by callbacks, at least once; readers get the values of a stream one
by one, each once and in order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from fastworker._core._callbacks import MAX_TRIES
from fastworker._transport._callback_sender import (
    CONNECT_SECONDS,
    PROOF_SECONDS,
    SEND_SECONDS,
)
from fastworker.testing._history import Event
from fastworker.testing._rules import Rules, Violation, violation
from fastworker.testing._story import CONTROL, LISTENER, Story, TaskStory

# How long one try may take, and how long its pipe has to outlive it.
DELIVERY_SECONDS = CONNECT_SECONDS + SEND_SECONDS + PROOF_SECONDS


def callbacks_are_right(story: Story, rules: Rules) -> Iterator[Violation]:
    """L6: what a listener is told is the end that was kept, under the id it always has."""
    for task in story.tasks.values():
        ids = {submit.callback for submit in task.submits if submit.callback}
        for call in task.calls:
            if call.callback not in ids:
                yield violation("L6", task, "nobody has asked for this callback", call)
                continue
            kept = [end for end in task.terminals if end.at <= call.at]
            if not kept:
                yield violation("L6", task, "its end was told before it was kept", call)
            elif (call.status, call.error) not in {(end.status, end.error) for end in kept}:
                yield violation("L6", task, "a listener was told of another end", *kept, call)
        for event in task.parked:
            if event.attempt > MAX_TRIES:
                message = f"its callback was tried {event.attempt} times"
                yield violation("L6", task, message, event)


def callbacks_arrive(story: Story, rules: Rules) -> Iterator[Violation]:
    """L6: each end that has a callback is told, or the callback is given up visibly."""
    if not story.is_settled:
        return
    for task in story.tasks.values():
        asked = [submit for submit in task.submits if submit.callback]
        if not asked or not task.terminals or task.calls or task.parked:
            continue
        if not rules.durable and _was_restarted(story, asked[0].at):
            continue  # it was lost with the memory of its control plane
        told = task.delivered[0] if task.delivered else None
        if told is None:
            message = "nobody was told of its end, and its callback was not given up"
            yield violation("L6", task, message, asked[0], *task.terminals)
        elif not story.troubles(LISTENER, told.at - DELIVERY_SECONDS, told.at + PROOF_SECONDS):
            # A frame that its listener's machine has may die there, and nobody sees it.
            message = "its end was taken for told, and nobody had heard of it"
            yield violation("L6", task, message, asked[0], told)


def _was_restarted(story: Story, since: float) -> bool:
    return any(
        life.process == CONTROL and since <= life.until < math.inf for life in story.lives
    )


def streams_are_whole(story: Story, rules: Rules) -> Iterator[Violation]:
    """S11, S12: a reader has the values of one attempt, from the first on, each once."""
    for task in story.tasks.values():
        if not task.items:
            continue
        yielded: defaultdict[tuple[int, str], list[Event]] = defaultdict(list)
        for event in task.yields:
            yielded[event.order, event.value].append(event)
        readers: defaultdict[int, list[Event]] = defaultdict(list)
        for item in task.items:
            readers[item.pid].append(item)
        for items in readers.values():
            yield from _judge_reader(task, items, yielded)


def _judge_reader(
    task: TaskStory, items: list[Event], yielded: defaultdict[tuple[int, str], list[Event]]
) -> Iterator[Violation]:
    runs: set[str] | None = None
    for place, item in enumerate(items):
        if item.order != place:
            message = f"value {item.order} came where value {place} was to come"
            yield violation("S12", task, message, *items[max(0, place - 1) : place + 1])
            return
        made = [one for one in yielded[item.order, item.value] if one.at <= item.at]
        if not made:
            yield violation("S11", task, f"no attempt has given value {item.order}", item)
            return
        here = {one.run for one in made}
        runs = here if runs is None else runs & here
        if not runs:
            yield violation("S11", task, "its values are of several attempts", *made, item)
            return


def streams_end_whole(story: Story, rules: Rules) -> Iterator[Violation]:
    """S12: whoever is told that a stream has succeeded has had all of its values."""
    for task in story.tasks.values():
        if not task.yields:
            continue
        counts: dict[str, int] = defaultdict(int)
        for event in task.yields:
            counts[event.run] += 1
        left = {event.pid for event in task.cancels}
        for outcome in task.outcomes:
            if outcome.status != "success" or outcome.pid in left or outcome.mode == "cancel":
                continue
            items = [item for item in task.items if item.pid == outcome.pid]
            if outcome.run in counts and len(items) != counts[outcome.run]:
                message = f"its reader had {len(items)} of {counts[outcome.run]} values"
                yield violation("S12", task, message, *items[-1:], outcome)
