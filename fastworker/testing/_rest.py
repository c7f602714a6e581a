"""What is left of everything in the end, and what a full queue refuses: B1 and B2."""

from __future__ import annotations

from collections.abc import Iterator

from fastworker.testing._history import Kind
from fastworker.testing._rules import Rules, Violation, violation
from fastworker.testing._story import Story


def nothing_is_left(story: Story, rules: Rules) -> Iterator[Violation]:
    """B2: once all is quiet, no process holds anything of tasks and clients that are gone."""
    for event in story.events:
        if event.kind is Kind.HOLDS:
            message = f"all is quiet, and {event.process} still has: {event.what} {event.order}"
            yield Violation("B2", "", message, (event,))


def only_a_full_queue_refuses(story: Story, rules: Rules) -> Iterator[Violation]:
    """B1: a submit is refused for want of room only where there may be none."""
    # Of each task: whether it may take up room. It does from before its submit is heard
    # until its end is durable at the latest, so this errs on the side of the queue.
    live: set[str] = set()
    ended_lately: dict[str, float] = {}
    asked: dict[tuple[int, str], float] = {}
    for event in story.events:
        if event.kind is Kind.SUBMIT:
            asked[event.pid, event.task] = event.at
            live.add(event.task)
        elif event.kind is Kind.TERMINAL:
            if event.task in live:
                live.discard(event.task)
                ended_lately[event.task] = event.at
        elif event.kind is Kind.REJECT and event.what == "queue_full":
            live.discard(event.task)
            since = asked.get((event.pid, event.task), 0.0)
            count = len(live) + sum(at >= since for at in ended_lately.values())
            if count < rules.max_queued:
                message = f"the queue was said to be full, and {count} tasks had not ended"
                yield violation("B1", story.tasks[event.task], message, event)
