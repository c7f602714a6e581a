"""``fastworker simulate``: a cluster with your tasks, and everything that can go wrong."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line

if TYPE_CHECKING:
    from fastworker.testing import Failure, Plan

# Of more failing seeds only the numbers are shown.
SHOWN_FAILURES = 3


@click.command()
@_options.task_modules("Task modules to simulate.")
@click.option(
    "--scenario",
    metavar="MODULE:NAME",
    help="An async function that gets the simulation, and calls and checks what it likes. "
    "[default: calls all tasks]",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many."
)
@click.option("--first", type=int, default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="Only this one, with its whole history.")
@click.option(
    "--keep", metavar="NUMBERS", help="Of that seed's faults only these: '3,7,messages'."
)
@click.option("--workers", type=click.IntRange(1), help="How many subworkers.")
@click.option("--clients", type=click.IntRange(0), help="How many clients of the plan.")
@click.option("--faults", metavar="KINDS", help="Only these kinds of faults: 'crash,pause'.")
@click.option(
    "--store",
    type=click.Choice(["durable", "memory", "any"]),
    default="durable",
    show_default=True,
    help="What the control plane keeps its tasks in.",
)
def simulate(
    task_modules: tuple[str, ...],
    *,
    scenario: str | None,
    seeds: int,
    first: int,
    seed: int | None,
    keep: str | None,
    workers: int | None,
    clients: int | None,
    faults: str | None,
    store: str,
) -> None:
    """Run your tasks in simulated clusters, each with faults of its own.

    All of it in this one process, in virtual time: processes are killed and
    paused, the network loses and reorders, the disk is full. The exit code is
    0 if all is well with every seed, and 1 if not; a failing seed is shown
    with the fewest faults that make it fail, and with the command that
    repeats it.
    """
    with errors_in_one_line():
        from fastworker._modules import load_task_modules, split_module_names
        from fastworker._registry import registry
        from fastworker.testing import draw_plan, run_plan, workload

        load_task_modules(split_module_names(task_modules))
        program = workload if scenario is None else find_scenario(scenario)
        kinds = None if faults is None else tuple(part.strip() for part in faults.split(","))

        def draw(number: int) -> Plan:
            return draw_plan(
                number,
                workers=workers,
                clients=clients,
                kinds=kinds,
                is_durable={"durable": True, "memory": False}.get(store),
            )

        def run(plan: Plan) -> Any:
            return run_plan(plan, program, registry=registry)

        if seed is not None:
            plan = draw(seed) if keep is None else _keep(draw(seed), keep)
            sys.exit(show_one(run(plan)))
        command = _command(task_modules, scenario, workers, clients, faults, store)
        sys.exit(_run_all(run, [draw(n) for n in range(first, first + seeds)], command))


def find_scenario(text: str) -> Any:
    """The function that ``--scenario MODULE:NAME`` names.

    Raises:
      ConfigurationError: there is none.
    """
    import importlib

    from fastworker._errors import ConfigurationError

    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigurationError(
            f"--scenario {text}: there is no such function; say it as mytasks:orders"
        ) from None


def show_one(result: Any) -> int:
    """Print a run; return the exit code."""
    for line in result.plan.lines():
        click.echo(line)
    for event in result.events:
        click.echo(str(event))
    for violation in result.violations:
        click.echo(str(violation))
    click.echo("all is well" if result.is_sound else f"{len(result.violations)} violations")
    return Exit.OK if result.is_sound else Exit.TASK_FAILED


def _run_all(run: Any, plans: Sequence[Plan], command: str) -> int:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from fastworker.testing import find_failures

    failing: list[int] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    is_plain = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_plain) as progress:
        bar = progress.add_task("seeds", total=len(plans))
        for plan, failure in zip(plans, find_failures(run, plans), strict=True):
            progress.advance(bar)
            if failure is None:
                continue
            failing.append(plan.seed)
            progress.update(bar, description=f"seeds, {len(failing)} failing")
            if len(failing) <= SHOWN_FAILURES:
                progress.console.print(
                    _shown(failure, command), markup=False, highlight=False, soft_wrap=True
                )
    count = f"{len(plans)} seeds" if len(plans) > 1 else "1 seed"
    if not failing:
        click.echo(f"{count}: all is well")
        return Exit.OK
    click.echo(f"{count}, {len(failing)} failing: {', '.join(map(str, failing))}")
    return Exit.TASK_FAILED


def _shown(failure: Failure, command: str) -> str:
    keep = f" --keep {','.join(failure.kept) or 'none'}"
    return (
        f"{failure}\n"
        f"repeat it with:          {command} --seed {failure.seed}\n"
        f"with these faults only:  {command} --seed {failure.seed}{keep}\n"
    )


def _keep(plan: Plan, text: str) -> Plan:
    from fastworker._errors import ConfigurationError
    from fastworker.testing._seeds import MESSAGES, part_of

    parts = [part.strip() for part in text.split(",") if part.strip() != "none"]
    numbers = [part for part in parts if part != MESSAGES]
    wrong = [n for n in numbers if not n.isdecimal() or int(n) >= len(plan.faults)]
    if wrong:
        raise ConfigurationError(
            f"--keep {text}: seed {plan.seed} has the faults 0 to {len(plan.faults) - 1}, "
            f"and perhaps 'messages', but no {wrong[0]!r}"
        )
    return part_of(plan, map(int, numbers), messages=MESSAGES in parts)


def _command(
    task_modules: tuple[str, ...],
    scenario: str | None,
    workers: int | None,
    clients: int | None,
    faults: str | None,
    store: str,
) -> str:
    words = ["fastworker", "simulate"]
    for module in task_modules:
        words += ["--task-modules", module]
    for option, value in (
        ("--scenario", scenario),
        ("--workers", workers),
        ("--clients", clients),
        ("--faults", faults),
        ("--store", None if store == "durable" else store),
    ):
        if value is not None:
            words += [option, str(value)]
    return shlex.join(words)
