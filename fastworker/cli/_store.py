"""``fastworker store``: look at, check and shrink the file in which tasks are kept."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, count, errors_in_one_line
from fastworker.cli._output import one_line, print_json

if TYPE_CHECKING:
    from pathlib import Path

_path = click.argument("path", required=False)


@click.group()
def store() -> None:
    """Look at, check and shrink the file in which tasks are kept.

    PATH is the file; by default it is the one that a control plane of this
    worker id and base address has.
    """


@store.command("info")
@_path
@_options.worker_id(default="control-plane")
@_options.base_address("Base address of the control plane.")
@_options.as_json("Print one JSON object.")
def info(
    path: str | None, *, worker_id: str | None, base_address: str | None, as_json: bool
) -> None:
    """Show what is in the file, also while a control plane has it."""
    with errors_in_one_line():
        import msgspec

        from fastworker._store._sqlite_tools import store_info

        found = store_info(_file(path, worker_id, base_address))
        facts = msgspec.to_builtins(found) | {"project": found.project or None}
        if as_json:
            print_json(facts)
            return
        for name, value in facts.items():
            shown = value
            if isinstance(value, dict):
                shown = (
                    ", ".join(f"{number:,} {state}" for state, number in value.items())
                    or "none"
                )
            elif isinstance(value, bool):
                shown = "yes" if value else "no"
            elif isinstance(value, float):
                shown = _at(value)
            elif isinstance(value, int) and name != "epoch":
                shown = f"{value:,}"
            if value is not None:
                click.echo(one_line(f"{name.replace('_', ' '):12} {shown}"))


@store.command("check")
@_path
@_options.worker_id(default="control-plane")
@_options.base_address("Base address of the control plane.")
@_options.as_json("Print one JSON object.")
def check(
    path: str | None, *, worker_id: str | None, base_address: str | None, as_json: bool
) -> None:
    """Read everything in the file and say what is damaged; exit code 1 if something is.

    Nothing is changed. It may be done while a control plane has the file.
    """
    with errors_in_one_line():
        from fastworker._store._sqlite_tools import check_store

        file = _file(path, worker_id, base_address)
        checked = check_store(file)
        number, problems = checked.tasks, checked.problems
        if as_json:
            print_json({"path": str(file), "tasks": number, "problems": problems})
        else:
            for problem in problems:
                click.echo(one_line(problem))
            click.echo(
                f"{count(number)} read, {len(problems) or 'nothing'} damaged"
                if len(problems) != 1
                else f"{count(number)} read, 1 damaged"
            )
        sys.exit(Exit.TASK_FAILED if problems else Exit.OK)


@store.command("vacuum")
@_path
@_options.worker_id(default="control-plane")
@_options.base_address("Base address of the control plane.")
def vacuum(path: str | None, *, worker_id: str | None, base_address: str | None) -> None:
    """Give free space in the file back, at once. No control plane may have it open.

    A running control plane does this by itself, bit by bit.
    """
    with errors_in_one_line():
        from fastworker._store._sqlite_tools import vacuum_store

        done = vacuum_store(_file(path, worker_id, base_address))
        click.echo(f"{done.before:,} bytes before, {done.after:,} bytes now")


def _file(path: str | None, worker_id: str | None, base_address: str | None) -> Path:
    from pathlib import Path

    from fastworker._config import ControlPlaneConfig
    from fastworker._errors import StoreError
    from fastworker._stores import MEMORY, default_path
    from fastworker._transport._address import parse_tcp_address

    if path is None:
        config = ControlPlaneConfig.resolve(
            os.environ, worker_id=worker_id, base_address=base_address, insecure=True
        )
        path = config.store
        if path is None:
            _, port = parse_tcp_address(config.base_address, listening=True)
            path = str(default_path(os.environ, config.worker_id, port))
    if path == MEMORY or not Path(path).is_file():
        raise StoreError(f"{path} is not there; say which file is meant")
    return Path(path)


def _at(wall: float) -> str:
    """A moment as people read it, in UTC."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC" if wall else "none"
