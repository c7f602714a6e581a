"""``fastworker requeue`` and ``purge``: what is done with tasks that have ended."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING

import click

from fastworker._task_words import ENDED
from fastworker.cli import _options
from fastworker.cli._errors import Exit, count, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json
from fastworker.cli._task_filters import Filters, NameText, filters

if TYPE_CHECKING:
    from fastworker._client import Client
    from fastworker._core._task_questions import TasksDone

_ids = click.argument("task_ids", nargs=-1, type=NameText(), metavar="[TASK_ID]...")
_yes = click.option("--yes", is_flag=True, help="Do not ask whether that is meant.")


@click.command("requeue")
@_ids
@filters(statuses=ENDED)
@_yes
@_options.as_json("Print one JSON object: done, and untouched with the reasons.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for each answer.")
@_options.log_level("WARNING")
def requeue(**options: object) -> None:
    """Run ended tasks again: those with these ids, or all that the options choose.

    Each keeps its id and its arguments. Its outcome is forgotten, its attempts
    begin anew, and it stands at the end of the queue of its priority.

    The exit code is 3 if one of the ids was not there, or has not ended.
    """
    _run("REQUEUE", "run again", options)


@click.command("purge")
@_ids
@filters(statuses=ENDED)
@_yes
@_options.as_json("Print one JSON object: done, and untouched with the reasons.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for each answer.")
@_options.log_level("WARNING")
def purge(**options: object) -> None:
    """Forget ended tasks: those with these ids, or all that the options choose.

    Tasks that have not ended are left alone; see ``fastworker cancel``.

    The exit code is 3 if one of the ids was not there, or has not ended.
    """
    _run("PURGE", "forget", options)


def _run(action: str, verb: str, options: dict[str, object]) -> None:
    with errors_in_one_line():
        ids: tuple[str, ...] = options["task_ids"]  # type: ignore[assignment]
        chosen = Filters(
            **{name: options[name] for name in Filters.__dataclass_fields__}  # type: ignore[arg-type]
        )
        if bool(ids) != chosen.is_empty:
            raise click.UsageError(
                f"say which tasks to {verb}: ids, or options such as --status failure; not both"
            )
        set_up_logging(options["log_level"], default="WARNING")  # type: ignore[arg-type]
        import trio

        from fastworker._client import Client
        from fastworker._core._task_questions import TaskAction, TasksDone
        from fastworker.cli._signals import run_until_signal

        client = Client(options["discovery_address"], None, options["timeout"])  # type: ignore[arg-type]

        wanted: list[str] = list(ids)
        newest: int | None = None

        async def choose() -> int:
            nonlocal wanted, newest
            async with client:
                wanted, newest = await _choose(client, chosen)
            return Exit.OK

        async def act() -> int:
            done = TasksDone()
            if wanted:
                async with client:
                    named = TaskAction[action]
                    done = await client._operations.act_on_tasks(named, wanted, newest=newest)
            show(done, verb, as_json=bool(options["as_json"]))
            return Exit.UNKNOWN if ids and done.untouched else Exit.OK

        if not ids:
            # Not while the question is open: nothing may hang on somebody at a keyboard.
            code = trio.run(run_until_signal, choose)
            if code != Exit.OK:
                sys.exit(code)
            if wanted and not options["yes"] and not _is_meant(f"{verb} {count(len(wanted))}?"):
                say("nothing was done")
                sys.exit(Exit.TASK_FAILED)
        sys.exit(trio.run(run_until_signal, act))


def _is_meant(question: str) -> bool:
    """Ask; no answer is a no, and Ctrl-C is a KeyboardInterrupt."""
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        click.echo(err=True)
    return answer.strip().lower() in ("y", "yes")


async def _choose(client: Client, chosen: Filters) -> tuple[list[str], int]:
    """The ids of all ended tasks that the options choose, and the highest of their numbers."""
    if not chosen.statuses:
        chosen = dataclasses.replace(chosen, statuses=ENDED)
    now = time.time()
    ids: list[str] = []
    newest = before = 0
    while True:
        page = await client._operations.list_tasks(
            chosen.question(now=now, limit=1_000, before=before)
        )
        ids += [row.task_id for row in page.rows]
        newest = max([newest, *(row.sequence for row in page.rows)])
        before = page.following
        if not before:
            return ids, newest


def show(done: TasksDone, verb: str, *, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        untouched = [{"task_id": u.task_id, "reason": u.reason} for u in done.untouched]
        print_json({"done": done.done, "untouched": untouched})
        return
    past = {"run again": "queued again", "forget": "forgotten"}[verb]
    click.echo(f"{count(len(done.done))} {past}")
    for each in done.untouched:
        say(one_line(f"task {each.task_id}: {each.reason}"))
