"""``fastworker callbacks``: which callbacks have not arrived, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json

if TYPE_CHECKING:
    from fastworker._core._messages import CallbacksReply

_STATES = ("queued", "retrying", "parked")


@click.command()
@click.option(
    "--state",
    "states",
    type=click.Choice(_STATES, case_sensitive=False),
    multiple=True,
    help="Only those that are queued, wait for a retry, or were given up (parked); "
    "may be given again.  [default: all]",
)
@click.option(
    "--limit",
    type=click.IntRange(0, 20_000),
    default=1_000,
    show_default=True,
    help="Show this many at most, and never more than 1 MiB of them.",
)
@_options.as_json("Print one JSON object: the numbers, and the callbacks.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.log_level("WARNING")
def callbacks(
    states: tuple[str, ...],
    *,
    limit: int,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show callbacks that have not arrived.

    The first line has the numbers of all callbacks; then each that has not
    arrived, with its state, address, task, event, failed tries and last error.
    Parked ones come first: they are tried no more.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker._core._messages import CallbackPhase, CallbacksAsked
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)
        # Each once: the wire has no room for more phases than there are.
        phases = [CallbackPhase[state.upper()] for state in dict.fromkeys(states)]

        async def command() -> int:
            async with client:
                reply = await client._operations.list_callbacks(CallbacksAsked(phases, limit))
            show(reply, as_json=as_json)
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def show(reply: CallbacksReply, *, as_json: bool) -> None:
    """Print the answer."""
    if as_json:
        print_json(_as_json(reply))
    else:
        click.echo(
            f"{reply.due} due: {reply.delivered} delivered, {reply.queued} queued, "
            f"{reply.retrying} retrying, {reply.parked} parked, {reply.dropped} dropped"
        )
        for view in reply.callbacks:
            tries = "1 try" if view.tries == 1 else f"{view.tries} tries"
            texts = [
                f"{view.phase.name.lower():8}",
                view.address,
                f"task {view.task_id}",
                f"event {view.event_id}",
                tries,
                view.error,
            ]
            click.echo(one_line("  ".join(filter(None, texts))))
    if reply.is_cut:
        say(
            f"only the first {len(reply.callbacks)} are shown; see others with --state "
            f"or a larger --limit"
        )


def _as_json(reply: CallbacksReply) -> dict[str, Any]:
    return {
        "due": reply.due,
        "delivered": reply.delivered,
        "queued": reply.queued,
        "retrying": reply.retrying,
        "parked": reply.parked,
        "dropped": reply.dropped,
        "is_cut": reply.is_cut,
        "callbacks": [
            {
                "state": view.phase.name.lower(),
                "address": view.address,
                "event_id": view.event_id,
                "task_id": view.task_id,
                "tries": view.tries,
                "error": view.error or None,
            }
            for view in reply.callbacks
        ],
    }
