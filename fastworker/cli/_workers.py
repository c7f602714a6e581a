"""``fastworker workers``: the subworkers of a control plane, and what they run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json
from fastworker.cli._watching import columns, watch_options

if TYPE_CHECKING:
    from fastworker._core._overview import WorkerRow

_SHOWN_TASKS = 3


@click.command("workers")
@watch_options
@_options.as_json("Print one JSON object; with --watch, one in each line.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.log_level("WARNING")
def workers(
    *,
    watch: bool,
    interval: float,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show the workers, in the order in which they joined.

    Each with its status, its load (how many tasks it has, and how many it can run
    at once), its lanes with what runs in them, when it was last heard of, and what
    it runs.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli import _watching
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)

        async def command() -> int:
            async with client:
                if watch:
                    await _watching.watch(
                        client,
                        client._workers,
                        as_lines,
                        as_object,
                        essence,
                        interval=interval,
                        as_json=as_json,
                    )
                show(await client._workers(), as_json=as_json)
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def show(rows: list[WorkerRow], *, as_json: bool) -> None:
    """Print the answer."""
    if as_json:
        print_json(as_object(rows))
    elif not rows:
        say("no workers")
    else:
        click.echo("\n".join(as_lines(rows)))


def as_object(rows: list[WorkerRow]) -> dict[str, Any]:
    """The answer for programs."""
    from fastworker._plane_views import worker_as_json

    return {"workers": [worker_as_json(row) for row in rows]}


def essence(rows: list[WorkerRow]) -> object:
    """The answer, but for how long ago each was heard of."""
    import msgspec

    return [msgspec.structs.replace(row, idle=0.0) for row in rows]


def as_lines(rows: list[WorkerRow]) -> list[str]:
    """The answer for people."""
    if not rows:
        return ["no workers"]
    table: list[tuple[str, ...]] = [
        ("WORKER", "STATUS", "LOAD", "LANES", "HEARD", "FUNCTIONS", "RUNS")
    ]
    table += [_cells(row) for row in rows]
    return columns(table)


def _cells(row: WorkerRow) -> tuple[str, ...]:
    lanes = [f"{lane.name} {lane.running}/{lane.capacity}" for lane in row.lanes]
    runs = [task.name for task in row.running[:_SHOWN_TASKS]]
    if row.running_count > len(runs):
        runs.append(f"and {row.running_count - len(runs)} more")
    texts = (
        row.worker_id,
        row.status,
        f"{row.load}/{row.capacity}",
        ", ".join(lanes) or "-",
        f"{row.idle:.0f}s ago",
        str(row.function_count),
        ", ".join(runs) or "-",
    )
    return tuple(one_line(text) for text in texts)
