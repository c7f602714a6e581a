"""``fastworker demo``: the real thing in one command, on real files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fastworker.cli._errors import errors_in_one_line
from fastworker.cli._logging import set_up_logging


@click.command()
@click.argument(
    "path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def demo(path: Path | None, *, as_json: bool) -> None:
    """Hash, size and count the lines of every file below PATH.

    Starts a control plane and two subworkers as processes of their own, hands
    in one task for each file, and shows how the work was shared. Nothing is
    left running, or written anywhere. PATH is by default the folder of
    Python's standard library.
    """
    with errors_in_one_line():
        set_up_logging(None, default="WARNING")
        import trio

        from fastworker.cli._demo_run import run_demo
        from fastworker.cli._demo_view import DemoView
        from fastworker.cli._signals import run_until_signal

        view = DemoView(as_json=as_json)

        async def command() -> int:
            return await run_demo(path, view)

        sys.exit(trio.run(run_until_signal, command))
