"""``fastworker subworker``: one more process that runs tasks."""

from __future__ import annotations

import os

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, count, errors_in_one_line, leave, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._parent_watch import ParentWatch
from fastworker.cli._telemetry import set_up_telemetry
from fastworker.cli._values import CommandWithLists


@click.command(cls=CommandWithLists)
@_options.worker_id(default=None)
@click.option(
    "--control-plane-address",
    envvar="FASTWORKER_CONTROL_PLANE_ADDRESS",
    required=True,
    metavar="ADDRESS",
    help="Control plane address: its base or its subworker management address.",
)
@_options.base_address("Base address; a label in the status, nothing listens there.")
@_options.discovery_address("Accepted; a subworker needs no discovery.")
@_options.task_modules("Task modules to load.")
@_options.concurrency
@_options.backend
@_options.drain_timeout
@_options.serialization_format("What arguments may be in, beside JSON.")
@_options.otel
@_options.log_level("INFO")
@_options.supervised
def subworker(
    worker_id: str,
    control_plane_address: str,
    *,
    base_address: str | None,
    discovery_address: str | None,
    task_modules: tuple[str, ...],
    concurrency: int | None,
    backend: str | None,
    drain_timeout: float | None,
    serialization_format: str | None,
    log_level: str | None,
    supervised: bool,
) -> None:
    """Start a subworker.

    Task modules are found from the current folder. The first Ctrl-C or
    SIGTERM lets running tasks end, the second ends them, the third ends the
    process at once.

    It ends by itself, with exit code 75, when tasks that were cancelled and do
    not stop have taken all of its slots: a supervisor then starts it again.
    """
    with errors_in_one_line():
        watch = ParentWatch() if supervised else None
        set_up_logging(log_level)
        set_up_telemetry()
        import trio

        from fastworker import _logs
        from fastworker._config import CommandConfig
        from fastworker._modules import load_task_modules, split_module_names
        from fastworker._subworker import SubWorker
        from fastworker.cli._memory import set_start_aside
        from fastworker.cli._signals import Drainable

        worker = SubWorker(
            worker_id,
            control_plane_address,
            base_address,
            discovery_address,
            serialization_format,
            concurrency=concurrency,
            backend=backend,  # type: ignore[arg-type]  # checked by click
            drain_timeout=drain_timeout,
            ends_when_worn_out=True,
        )
        _logs.worker_id = worker.worker_id
        modules = CommandConfig.resolve(
            os.environ, task_modules=split_module_names(task_modules) or None
        ).task_modules
        load_task_modules(modules)
        if not modules:
            say(
                "no --task-modules were given, so this subworker knows no tasks; stop it, "
                "and name some"
            )

        def describe() -> str:
            statistics = worker.statistics()
            return f"{count(statistics.running if statistics else 0)} running"

        drainable = Drainable(worker.drain, None if supervised else describe)

        async def program() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                set_start_aside()
                drainable.is_up()

        async def main() -> int:
            on_scope = watch.cancels if watch is not None else None
            code = await drainable.run(program, on_scope=on_scope)
            is_worn_out = worker.is_worn_out and not drainable.was_signalled
            return Exit.TRY_AGAIN if is_worn_out else code

        leave(trio.run(main))
