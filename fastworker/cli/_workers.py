"""``fastworker workers``: the subworkers of a running control plane."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json
from fastworker.cli._watch import in_columns, look_again_and_again, watch_option

if TYPE_CHECKING:
    from fastworker._core._overview import WorkerRow


@click.command("workers")
@_options.as_json("Print one JSON object.")
@watch_option
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.log_level("WARNING")
def workers(
    *,
    as_json: bool,
    watch: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show the workers, in the order in which they joined.

    Each with its status (active, away, or draining), how much it has of how much it
    can take, how long ago it was heard of, and what it runs.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)

        async def command() -> int:
            async with client:
                if watch:
                    await look_again_and_again(
                        client._operations.workers, lines_of, objects_of if as_json else None
                    )
                rows = await client._operations.workers()
            if as_json:
                print_json(objects_of(rows))
            elif rows:
                click.echo("\n".join(lines_of(rows)))
            else:
                say("no worker has joined")
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def lines_of(rows: list[WorkerRow]) -> list[str]:
    """The workers for a person."""
    table: list[tuple[str, ...]] = [("WORKER", "STATUS", "LOAD", "HEARD", "LANES", "RUNNING")]
    for row in rows:
        lanes = " ".join(f"{each.name}:{each.leased}/{each.capacity}" for each in row.lanes)
        running = ", ".join(f"{task.name} ({task.task_id})" for task in row.running[:5])
        more = row.running_count - len(row.running[:5])
        cells = (
            row.worker_id,
            row.status,
            f"{row.load}/{row.capacity}",
            f"{row.idle:.0f}s",
            lanes or "-",
            f"{running} and {more} more" if more > 0 else running,
        )
        table.append(tuple(one_line(cell) for cell in cells))
    return in_columns(table)


def objects_of(rows: list[WorkerRow]) -> dict[str, Any]:
    """The workers for a program."""
    return {"workers": [_object_of(row) for row in rows]}


def _object_of(row: WorkerRow) -> dict[str, Any]:
    return {
        "worker_id": row.worker_id,
        "address": row.address or None,
        "status": row.status,
        "is_inside": row.is_inside,
        "load": row.load,
        "capacity": row.capacity,
        "idle": round(row.idle, 3),
        "joined_at": _moment(row.joined),
        "lanes": [
            {
                "name": lane.name,
                "capacity": lane.capacity,
                "leased": lane.leased,
                "running": lane.running,
            }
            for lane in row.lanes
        ],
        "running": [
            {
                "task_id": task.task_id,
                "name": task.name,
                "started_at": _moment(task.started),
                "lane": task.lane,
                "progress": task.progress if task.progress >= 0 else None,
                "message": task.message or None,
            }
            for task in row.running
        ],
        "running_count": row.running_count,
        "functions": list(row.functions),
        "function_count": row.function_count,
    }


def _moment(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat()
