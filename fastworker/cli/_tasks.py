"""``fastworker tasks``: the tasks that a control plane keeps, and all about one of them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fastworker._task_words import STATUSES
from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json
from fastworker.cli._task_filters import Filters, NameText, ago, filters
from fastworker.cli._watch import in_columns, look_again_and_again, watch_option

if TYPE_CHECKING:
    from fastworker._core._stored import TaskRow, TasksPage
    from fastworker._core._task_questions import TaskDetail


@click.command("tasks")
@click.argument("task_id", required=False, type=NameText())
@filters(statuses=tuple(STATUSES))
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=50,
    show_default=True,
    help="How many are shown at most.",
)
@click.option(
    "--before",
    type=click.IntRange(1, 2**62),
    metavar="NUMBER",
    help="Only those before this number: the next page.",
)
@_options.as_json("Print one JSON object: the tasks, and the number for the next page.")
@watch_option
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.log_level("WARNING")
def tasks(
    task_id: str | None,
    *,
    statuses: tuple[str, ...],
    name: str | None,
    worker: str | None,
    priorities: tuple[str, ...],
    last: float | None,
    older: float | None,
    limit: int,
    before: int | None,
    as_json: bool,
    watch: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show tasks, the newest first, or all about the one with TASK_ID.

    Each with its number, status, attempts, worker, age and last error. Ended
    tasks are kept for 7 days, and the latest 100,000 of them; with a store in
    memory there are fewer. The list may be a moment behind.
    """
    with errors_in_one_line():
        chosen = Filters(statuses, name, worker, priorities, last, older)
        if task_id is not None and not (chosen.is_empty and before is None):
            raise click.UsageError("give a task's id, or options that choose tasks; not both")
        if task_id is not None and watch:
            raise click.UsageError("--watch is for lists; leave out TASK_ID")
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)

        async def ask() -> TasksPage:
            asked = chosen.question(now=time.time(), limit=limit, before=before or 0)
            return await client._operations.list_tasks(asked)

        async def command() -> int:
            async with client:
                if watch:
                    await look_again_and_again(
                        ask,
                        lambda page: lines_of(page, time.time()),
                        page_as_json if as_json else None,
                    )
                if task_id is not None:
                    show_one(await client._operations.describe_task(task_id), as_json=as_json)
                else:
                    show(await ask(), as_json=as_json, now=time.time())
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def show(page: TasksPage, *, as_json: bool, now: float) -> None:
    """Print a page."""
    if as_json:
        print_json(page_as_json(page))
        return
    if not page.rows:
        say("no such tasks")
        return
    for line in lines_of(page, now):
        click.echo(line)
    if page.following:
        say(f"there are more: --before {page.following}")


def page_as_json(page: TasksPage) -> dict[str, Any]:
    """A page for a program."""
    from fastworker._task_views import row_as_json

    return {
        "tasks": [row_as_json(row) for row in page.rows],
        "next": page.following or None,
    }


def lines_of(page: TasksPage, now: float) -> list[str]:
    """A page for a person."""
    table: list[tuple[str, ...]] = [
        ("NUMBER", "TASK", "NAME", "STATUS", "TRIES", "WORKER", "AGE", "ERROR")
    ]
    table += [_cells(row, now) for row in page.rows]
    return in_columns(table)


def _cells(row: TaskRow, now: float) -> tuple[str, ...]:
    from fastworker._task_views import status_of

    texts = (
        str(row.sequence),
        row.task_id,
        row.name,
        status_of(row),
        str(row.attempts),
        row.worker or "-",
        ago(row.created, now),
        row.error,
    )
    return tuple(one_line(text) for text in texts)


def show_one(detail: TaskDetail, *, as_json: bool) -> None:
    """Print all that is known of one task."""
    from fastworker._task_views import detail_as_json

    facts = detail_as_json(detail)
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if value is None or value in ([], False):
            continue
        lines = value if isinstance(value, list) else str(value).rstrip().splitlines()
        first, *rest = [one_line(str(line)) for line in lines] or [""]
        click.echo(f"{name.replace('_', ' '):17} {first}".rstrip())
        for line in rest:
            click.echo(f"{'':17} {line}")
