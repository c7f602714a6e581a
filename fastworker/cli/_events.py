"""``fastworker events``: changes of tasks, a line each, while they happen."""

from __future__ import annotations

import dataclasses
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
    from fastworker import EventStream
    from fastworker._models import TaskChange


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
    multiple=True,
    metavar="NAME",
    help="Only those of this task function; may be given again.",
)
@click.option(
    "--worker", type=NameText(), metavar="ID", help="Only those that this worker runs."
)
@click.option(
    "--priority",
    "priorities",
    type=click.Choice(PRIORITIES, case_sensitive=False),
    multiple=True,
    help="Only those of this priority; may be given again.",
)
@click.option(
    "--task",
    "task_ids",
    type=NameText(),
    multiple=True,
    metavar="ID",
    help="Only this task; may be given again.",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="End after so many.  [default: never]"
)
@_options.as_json("Print one JSON object in each line.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the first answer.")
@_options.log_level("WARNING")
def events(
    *,
    statuses: tuple[str, ...],
    names: tuple[str, ...],
    worker: str | None,
    priorities: tuple[str, ...],
    task_ids: tuple[str, ...],
    limit: int | None,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show changes of tasks while they happen, until Ctrl-C.

    What is shown is in the control plane's store already. Nothing waits for whoever
    reads this: what is not read in time is dropped, and how many that were is said,
    as is a restart of the control plane. With --json these are objects too, with
    "dropped" or "interrupted".
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
                    priorities=priorities,
                    task_ids=task_ids,
                    max_buffered=10_000,
                ) as stream,
            ):
                await _follow(stream, limit, as_json=as_json)
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


async def _follow(stream: EventStream, limit: int | None, *, as_json: bool) -> None:
    shown = dropped = interruptions = 0
    while limit is None or shown < limit:
        changes = await stream.read()
        if stream.interruptions > interruptions:
            interruptions = stream.interruptions
            _note({"interrupted": interruptions}, _INTERRUPTED, as_json=as_json)
        if stream.dropped > dropped:
            new, dropped = stream.dropped - dropped, stream.dropped
            _note({"dropped": new}, f"{new:,} changes were dropped", as_json=as_json)
        for change in changes[: None if limit is None else limit - shown]:
            shown += 1
            if as_json:
                print_json(as_object(change))
            else:
                click.echo(as_line(change))
        sys.stdout.flush()


_INTERRUPTED = "the control plane has begun anew; what happened meanwhile is not shown"


def _note(facts: dict[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        say(words)


def as_object(change: TaskChange) -> dict[str, Any]:
    """A change for programs; its fields are those of ``fastworker tasks --json``."""
    facts = dataclasses.asdict(change)
    facts["status"] = change.status.value
    facts["priority"] = PRIORITIES[change.priority]
    return facts


def as_line(change: TaskChange) -> str:
    """A change for people."""
    texts = [
        f"{change.changed_at:%H:%M:%S.%f}"[:-3],
        f"{change.state:9}",
        change.task_id,
        change.name,
        change.worker_id or "-",
    ]
    if change.error:
        texts.append(change.error)
    return one_line("  ".join(texts))
