"""What a control plane would lose if it ended now, in words for people."""

from __future__ import annotations

from fastworker._core._scheduler import SchedulerStatistics


def waiting(tasks: SchedulerStatistics) -> dict[str, int]:
    """How many tasks of each state wait to be started; states without any are left out."""
    states = {"ready": sum(tasks.ready), "held": tasks.held, "retrying": tasks.retrying}
    return {state: count for state, count in states.items() if count}


def unfinished(tasks: SchedulerStatistics) -> dict[str, int]:
    """As :func:`waiting`, with those that run."""
    running = tasks.leased + tasks.started
    return ({"running": running} if running else {}) | waiting(tasks)


def in_words(states: dict[str, int]) -> str:
    """ "3 tasks: 2 ready, 1 retrying"."""
    total = sum(states.values())
    parts = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{total} task{'' if total == 1 else 's'}: {parts}" if parts else "no tasks"
