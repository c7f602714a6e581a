"""``fastworker cancel``: have a task stopped, and hear what came of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json, to_json

if TYPE_CHECKING:
    from fastworker._cancel_outcome import CancelOutcome


@click.command()
@click.option("--task-id", required=True, metavar="UUID", help="The task's ID.")
@_options.grace("How long a running task gets to end; then it is killed, or abandoned.")
@_options.as_json(
    "Print one JSON object: task_id, outcome, and what there is of after, status, value, "
    "error, signal, reason."
)
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the outcome; the task is cancelled all the same.")
@_options.log_level("WARNING")
def cancel(
    task_id: str,
    *,
    grace: float | None,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Cancel a task.

    Prints what came of it: never_started, cancelled (its clean-up has run),
    completed (it ended by itself), killed (its process was), abandoned (it does
    not stop, and its result will be dropped), or lost (nobody can know).

    The exit code is 0 if it is certain that the task does not run any more; 1
    for abandoned and lost; 3 for an unknown task, or one that ended so long ago
    that nobody knows how; 4 if that was not known in time.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, timeout=timeout)

        async def command() -> int:
            async with client:
                with trio.move_on_after(client.timeout):
                    outcome = await client.cancel(task_id, grace)
                    return show(task_id, outcome, as_json=as_json)
            say(
                f"task {task_id}: what came of it is not known after {client.timeout:g} s; it "
                f"is being cancelled; ask again, or wait longer with --timeout"
            )
            return Exit.TIMED_OUT

        sys.exit(trio.run(run_until_signal, command))


def show(task_id: str, outcome: CancelOutcome, *, as_json: bool) -> int:
    """Print an outcome; return the exit code."""
    facts = describe_outcome(outcome)
    if as_json:
        print_json({"task_id": task_id, **facts})
    else:
        click.echo(_in_words(facts))
    return Exit.TASK_FAILED if facts["outcome"] in ("abandoned", "lost") else Exit.OK


def describe_outcome(outcome: CancelOutcome) -> dict[str, Any]:
    """What a cancel has come to, as a JSON object."""
    from fastworker import _cancel_outcome as outcomes

    match outcome:
        case outcomes.NeverStarted():
            return {"outcome": "never_started"}
        case outcomes.Cancelled(after=after):
            return {"outcome": "cancelled", "after": after}
        case outcomes.Completed(result=result):
            return {
                "outcome": "completed",
                "status": result.status.value,
                "value": result.result,
                "error": result.error,
            }
        case outcomes.Killed(signal=signal):
            return {"outcome": "killed", "signal": signal}
        case outcomes.Abandoned():
            return {"outcome": "abandoned"}
        case outcomes.Lost(reason=reason):
            return {"outcome": "lost", "reason": reason}


def _in_words(facts: dict[str, Any]) -> str:
    match facts:
        case {"outcome": "never_started"}:
            return "never_started: none of its code ran"
        case {"outcome": "cancelled", "after": float(after)}:
            return f"cancelled: it had run for {after:.3f} s"
        case {"outcome": "completed", "error": str(error)}:
            return f"completed: {facts['status']}: {one_line(error)}"
        case {"outcome": "completed", "status": "success"}:
            return f"completed: {to_json(facts['value'])}"
        case {"outcome": "completed"}:
            return f"completed: {facts['status']}"
        case {"outcome": "killed"}:
            return f"killed: its process was ended by signal {facts['signal']}"
        case {"outcome": "abandoned"}:
            return "abandoned: it does not stop and may still be running; its result is dropped"
        case {"outcome": "lost"}:
            return f"lost: {one_line(facts['reason'].removeprefix('lost: '))}"
    return str(facts["outcome"])
