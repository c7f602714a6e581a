"""``fastworker events``: changes of tasks, a line for each, while they happen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker._task_words import PRIORITIES, STATUSES
from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json
from fastworker.cli._task_filters import NameText

if TYPE_CHECKING:
    from fastworker._models import TaskChange
    from fastworker._task_events import EventStream


@click.command("events")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(tuple(STATUSES), case_sensitive=False),
    multiple=True,
    help="Only tasks that have come to this status; may be given again.",
)
@click.option(
    "--name",
    "names",
    type=NameText(),
    metavar="NAME",
    multiple=True,
    help="Only those of this task function; may be given again.",
)
@click.option(
    "--worker", type=NameText(), metavar="ID", help="Only those that this worker runs or ran."
)
@click.option(
    "--task-id",
    "task_ids",
    type=NameText(),
    metavar="UUID",
    multiple=True,
    help="Only this task; may be given again.",
)
@click.option(
    "--priority",
    "priorities",
    type=click.Choice(PRIORITIES, case_sensitive=False),
    multiple=True,
    help="Only those of this priority; may be given again.",
)
@click.option("--limit", type=click.IntRange(min=1), help="End after so many changes.")
@_options.as_json("Print one JSON object a line.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the control plane at first.")
@_options.log_level("WARNING")
def events(
    *,
    statuses: tuple[str, ...],
    names: tuple[str, ...],
    worker: str | None,
    task_ids: tuple[str, ...],
    priorities: tuple[str, ...],
    limit: int | None,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show changes of tasks while they happen, until Ctrl-C.

    Each with its time, status, task, attempts, worker and error. A change is told
    once it is in the store; several of a task at once come as one. It never
    holds up a task: what cannot be shown in time is dropped, and that is said. A
    control plane that goes away and comes back is waited for.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)

        async def command() -> int:
            async with (
                client,
                client.events(
                    statuses=statuses,
                    names=names,
                    worker=worker,
                    task_ids=task_ids,
                    priorities=priorities,
                    max_buffered=10_000,
                ) as stream,
            ):
                await show(stream, limit=limit, as_json=as_json)
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


async def show(stream: EventStream, *, limit: int | None, as_json: bool) -> None:
    """Print changes, and what is missing between them."""
    left = float("inf") if limit is None else limit
    dropped = interruptions = 0
    while left > 0:
        changes = await stream.read()
        if stream.interruptions > interruptions:
            interruptions = stream.interruptions
            if as_json:
                print_json({"event": "interrupted"})
            else:
                say("the control plane was away; what happened meanwhile is not shown")
        if stream.dropped > dropped:
            count, dropped = stream.dropped - dropped, stream.dropped
            if as_json:
                print_json({"event": "dropped", "count": count})
            else:
                say(f"{count:,} changes were dropped: there were too many to be shown")
        for change in changes[: None if limit is None else int(left)]:
            left -= 1
            if as_json:
                print_json(object_of(change))
            else:
                click.echo(line_of(change))


def object_of(change: TaskChange) -> dict[str, Any]:
    """A change for a program; as ``fastworker tasks --json`` has a task."""
    return {
        "event": "change",
        "number": change.number,
        "task_id": change.task_id,
        "name": change.name,
        "status": change.status.value,
        "state": change.state,
        "priority": change.priority.name.lower(),
        "created_at": change.created_at,
        "started_at": change.started_at,
        "changed_at": change.changed_at,
        "worker_id": change.worker_id,
        "attempts": change.attempts,
        "error": change.error,
        "cancel_requested": change.cancel_requested,
    }


def line_of(change: TaskChange) -> str:
    """A change for a person."""
    moment = change.changed_at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    texts = [moment, f"{change.state:9}", change.task_id, change.name]
    if change.attempts > 1:
        texts.append(f"attempt {change.attempts}")
    if change.worker_id:
        texts.append(f"on {change.worker_id}")
    if change.error:
        texts.append(change.error)
    return one_line("  ".join(texts))
