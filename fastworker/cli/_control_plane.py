"""``fastworker control-plane``: the process that keeps the tasks, and its subworkers."""

from __future__ import annotations

import os

import click

from fastworker.cli import _options
from fastworker.cli._errors import errors_in_one_line, leave
from fastworker.cli._logging import set_up_logging
from fastworker.cli._options import with_default
from fastworker.cli._parent_watch import ParentWatch
from fastworker.cli._telemetry import set_up_telemetry
from fastworker.cli._tls_options import tls_to_listen
from fastworker.cli._values import CommandWithLists


@click.command("control-plane", cls=CommandWithLists)
@_options.worker_id(default="control-plane")
@_options.base_address("Base address: clients and subworkers connect here.")
@_options.discovery_address("Discovery address: clients look here first.")
@click.option(
    "--subworker-port",
    type=int,
    metavar="PORT",
    help=with_default("Subworker management port.", "5560"),
)
@click.option(
    "--result-cache-size",
    type=int,
    metavar="N",
    help=with_default("Maximum cached results.", "10000"),
)
@click.option(
    "--result-cache-ttl",
    type=float,
    metavar="SECONDS",
    help=with_default("Cache TTL in seconds.", "3600"),
)
@click.option(
    "--max-queued",
    type=int,
    metavar="N",
    help=with_default("Maximum tasks that have not ended; beyond it none is taken.", "1000000"),
)
@click.option(
    "--insecure",
    is_flag=True,
    default=None,
    help="Do without authentication where it is needed: to listen where other machines can "
    "connect, or on a store that was used with it.",
)
@click.option(
    "--store",
    metavar="PATH",
    help=with_default(
        "Where tasks are kept: a file, or 'memory'.",
        "<worker id>-<base port>.db in $XDG_STATE_HOME/fastworker",
    ),
)
@click.option(
    "--history-size",
    type=int,
    metavar="N",
    help=with_default("Maximum ended tasks that are kept there.", "100000"),
)
@click.option(
    "--history-ttl",
    type=float,
    metavar="SECONDS",
    help=with_default("And for how long.", "604800"),
)
@click.option(
    "--callback-allow",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Where callbacks may go beside loopback and their client's own host; also a "
    "network such as 10.0.0.0/8; may be given again.",
)
@tls_to_listen
@_options.task_modules("Task modules to load.")
@click.option(
    "--processes",
    type=click.IntRange(0, 1000),
    envvar="FASTWORKER_PROCESSES",
    default=1,
    show_default=True,
    help="How many subworker processes to start and to watch over; "
    "0 runs the tasks in this process.",
)
@_options.concurrency
@_options.backend
@_options.drain_timeout
@_options.serialization_format("What arguments may be in, beside JSON.")
@_options.gui_host
@_options.gui_port
@click.option(
    "--gui-allowed-host",
    "gui_allowed_hosts",
    multiple=True,
    metavar="HOST",
    help="A name under which browsers reach the dashboard, beside localhost; may be "
    "given again.",
)
@click.option("--no-gui", is_flag=True, help="Serve no dashboard.")
@_options.otel
@_options.log_level("INFO")
@_options.supervised
def control_plane(
    *,
    worker_id: str | None,
    base_address: str | None,
    discovery_address: str | None,
    subworker_port: int | None,
    result_cache_size: int | None,
    result_cache_ttl: float | None,
    max_queued: int | None,
    insecure: bool | None,
    store: str | None,
    history_size: int | None,
    history_ttl: float | None,
    callback_allow: tuple[str, ...],
    task_modules: tuple[str, ...],
    processes: int,
    concurrency: int | None,
    backend: str | None,
    drain_timeout: float | None,
    serialization_format: str | None,
    gui_host: str | None,
    gui_port: int | None,
    gui_allowed_hosts: tuple[str, ...],
    no_gui: bool,
    log_level: str | None,
    supervised: bool,
) -> None:
    """Start the control plane worker.

    Task modules are found from the current folder. The first Ctrl-C or
    SIGTERM lets running tasks end, the second ends them, the third ends the
    process at once. Tasks that have not ended then come back with the next
    start; with --store memory they are lost, and how many there are is said
    at the first signal and at the end.

    The dashboard is served beside it, if the extra 'dashboard' is installed; see
    'fastworker dashboard'.
    """
    with errors_in_one_line():
        watch = ParentWatch() if supervised else None
        level = set_up_logging(log_level)
        otel = set_up_telemetry()
        import trio

        from fastworker import _logs
        from fastworker._config import CommandConfig
        from fastworker._control_plane import ControlPlaneWorker
        from fastworker._modules import load_task_modules, split_module_names
        from fastworker.cli._dashboard_beside import dashboard_beside
        from fastworker.cli._service import Service
        from fastworker.cli._store_choice import store_to_use

        worker = ControlPlaneWorker(
            worker_id,
            base_address,
            discovery_address,
            serialization_format,
            subworker_port,
            result_cache_size,
            result_cache_ttl,
            max_queued=max_queued,
            insecure=insecure,
            store=store_to_use(store, worker_id, base_address),
            history_max_size=history_size,
            history_ttl_seconds=history_ttl,
            callback_allow=callback_allow or None,
            executes=processes == 0,
            concurrency=concurrency,
            backend=backend,  # type: ignore[arg-type]  # checked by click
            drain_timeout=drain_timeout,
        )
        _logs.worker_id = worker.worker_id
        dashboard = dashboard_beside(
            worker,
            # Whoever supervises it shows what there is to show.
            is_wanted=not (no_gui or supervised),
            host=gui_host,
            port=gui_port,
            allowed_hosts=gui_allowed_hosts or None,
            insecure=insecure,
        )
        modules = CommandConfig.resolve(
            os.environ, task_modules=split_module_names(task_modules) or None
        ).task_modules
        # Also when other processes run them: a module that fails to import is
        # told here, once, before anything listens.
        load_task_modules(modules)
        service = Service(
            worker,
            modules,
            processes=processes,
            log_level=level,
            log_format=_logs.JSON if _logs.is_json() else _logs.TEXT,
            otel=otel,
            concurrency=concurrency,
            dashboard=dashboard,
        )
        leave(trio.run(service.run, watch))
