"""In which order work is handed out, and when: S14, S15 and S17.

Of what the control plane may lease and leases the history tells at the moment in which it
decides, so these rules need no tolerance. Each looks at every event once.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator

from fastworker._models import TaskPriority
from fastworker.testing._history import Event, Kind
from fastworker.testing._rules import Rules, Violation, excuses, violation
from fastworker.testing._story import Execution, Story

# Order is promised between tasks of one lane: in another there may be no room.
Lane = str
Place = tuple[int, int, str]  # priority, number of the submit, task


class _Waiting:
    """What may be leased at one time, by lane; the first that should go is known."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._events: dict[str, Event] = {}
        self._places: defaultdict[Lane, list[Place]] = defaultdict(list)

    def add(self, event: Event) -> None:
        self._events[event.task] = event
        expected = self._rules.expected(event.name)
        # What runs alone waits for an idle worker, and what runs once for the store.
        if not event.mode and not expected.runs_once:
            heapq.heappush(self._places[expected.lane], _place(event))

    def remove(self, task: str) -> Event | None:
        return self._events.pop(task, None)

    def first_before(self, given: Event) -> Event | None:
        """Who had to go before this one, and still waits."""
        places = self._places[self._rules.expected(given.name).lane]
        while places:
            event = self._events.get(places[0][2])
            if event is not None and _place(event) == places[0]:
                return event if places[0] < _place(given) else None
            heapq.heappop(places)
        return None


def _place(event: Event) -> Place:
    return TaskPriority[event.what.upper()], event.order, event.task


def work_is_given_in_order(story: Story, rules: Rules) -> Iterator[Violation]:
    """S14, S15: who is leased goes before all that are less urgent, or came later."""
    waiting = _Waiting(rules)
    pid = 0
    # What one look at the queue has given: together, whatever order they are told in.
    batch: list[tuple[Event, Event]] = []
    for event in [*story.events, Event(Kind.SETTLED, story.last_at)]:
        if batch and event.kind is not Kind.GIVEN:
            yield from _judge(story, waiting, batch)
            batch = []
        if event.kind in (Kind.READY, Kind.GIVEN, Kind.UNREADY) and event.pid != pid:
            # Another control plane, which has told all that it has.
            waiting, pid = _Waiting(rules), event.pid
        if event.kind is Kind.READY:
            waiting.add(event)
        elif event.kind is Kind.UNREADY:
            waiting.remove(event.task)
        elif event.kind is Kind.GIVEN:
            ready = waiting.remove(event.task)
            if ready is None:
                task = story.tasks[event.task]
                yield violation("S5", task, "it was leased, and did not wait for it", event)
            elif not (ready.mode or event.mode):
                batch.append((ready, event))


def _judge(
    story: Story, waiting: _Waiting, batch: list[tuple[Event, Event]]
) -> Iterator[Violation]:
    for ready, given in batch:
        first = waiting.first_before(ready)
        if first is None:
            continue
        task = story.tasks[first.task]
        if first.what != ready.what:
            message = f"task {given.task} of priority {ready.what} was leased before it"
            yield violation("S14", task, f"{message}, which is {first.what}", first, given)
        else:
            message = f"task {given.task}, which came later, was leased before it"
            yield violation("S15", task, message, first, ready, given)


def retries_are_not_early(story: Story, rules: Rules) -> Iterator[Violation]:
    """S17: whoever waits for its next attempt cannot be leased before its time has come."""
    for task in story.tasks.values():
        delay = rules.of(task).retry_delay
        if not delay:
            continue
        by_fence = {execution.fence: execution for execution in task.executions}
        last: Execution | None = None
        for event in task.queue:
            if event.kind is Kind.GIVEN:
                last = by_fence.get((event.epoch, event.attempt))
            elif event.kind is Kind.READY and last is not None:
                end, last_start = last.end, last.start
                if end is None or end.what != "raise" or event.at < end.at:
                    continue
                # With a fault it may be back because it was lost, and not because it failed.
                if event.at < end.at + delay and not excuses(story, rules, last, event.at):
                    waited = event.at - end.at
                    yield violation(
                        "S17",
                        task,
                        f"it may be leased again {waited:.3f} s after it failed, "
                        f"and {delay:g} s were asked for",
                        last_start,
                        end,
                        event,
                    )
