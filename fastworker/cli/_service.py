"""A control plane together with the subworker processes that it watches over."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
import trio

import fastworker
from fastworker._control_plane import ControlPlaneWorker
from fastworker._credentials import token_files_of_worker
from fastworker._registry import registry
from fastworker._supervisor import Supervisor
from fastworker._tls import environ_on_this_machine
from fastworker._unfinished import waiting
from fastworker.cli._dashboard_beside import DashboardMissing, address_to_open
from fastworker.cli._errors import count
from fastworker.cli._memory import set_start_aside
from fastworker.cli._parent_watch import ParentWatch
from fastworker.cli._signals import Drainable
from fastworker.cli._supervised import (
    address_to_dial,
    addresses_to_json,
    fastworker_command,
)

if TYPE_CHECKING:
    from fastworker.dashboard import Dashboard

log = logging.getLogger("fastworker.control_plane")

# A drained subworker says goodbye before it ends.
FAREWELL_SECONDS: Final = 1.0
# A supervised subworker ends at most two seconds after its parent.
ORPHAN_SECONDS: Final = 2.5
_SHOWN_NAMES: Final = 12


class Service:
    """What ``fastworker control-plane`` runs.

    Args:
      worker: the control plane, not running yet.
      modules: the task modules, loaded already.
      processes: how many subworker processes run the tasks; with 0 the
        worker does it itself.
      log_level, log_format, otel, concurrency: for those processes.
      dashboard: makes the dashboard that is served beside it, or None.
    """

    def __init__(
        self,
        worker: ControlPlaneWorker,
        modules: Sequence[str],
        *,
        processes: int,
        log_level: str,
        log_format: str = "text",
        otel: bool = False,
        concurrency: int | None,
        dashboard: Callable[[], Dashboard | None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._modules = modules
        # Without a module they could run nothing, and would make the control
        # plane refuse names that a subworker yet to come will know.
        self._processes = processes if modules else 0
        self._log_level = log_level
        self._log_format = log_format
        self._otel = otel
        self._concurrency = concurrency
        self._make_dashboard = dashboard
        self._dashboard_address = ""
        self._supervisor = Supervisor({}, lambda *_: None)

    async def run(self, watch: ParentWatch | None = None) -> int:
        """Run until a signal, or the end of the watched parent, ends it.

        Returns:
          The exit code.
        """
        is_supervised = watch is not None
        self._drainable = Drainable(self._drain, None if is_supervised else self._describe)
        self._is_supervised = is_supervised
        return await self._drainable.run(
            self._serve, on_scope=watch.cancels if watch is not None else None
        )

    async def _serve(self) -> None:
        async with trio.open_nursery() as subworkers, trio.open_nursery() as dashboards:
            async with trio.open_nursery() as plane:
                await plane.start(self._worker.run)
                await self._start_dashboard(dashboards)
                self._supervisor = Supervisor(
                    self._commands(),
                    self._note_exit,
                    environ=environ_on_this_machine(
                        token_files_of_worker(os.environ), self._worker.tls
                    ),
                )
                await subworkers.start(self._supervisor.run)
                self._announce()
                set_start_aside()
                self._drainable.is_up()
                if self._worker.replayed.tasks:
                    subworkers.start_soon(self._outlive_old_processes)
            # The control plane has drained: so have they, or they never will.
            subworkers.cancel_scope.deadline = trio.current_time() + FAREWELL_SECONDS
            dashboards.cancel_scope.cancel()  # there is nothing to show any more

    async def _start_dashboard(self, nursery: trio.Nursery) -> None:
        try:
            dashboard = self._make_dashboard()
        except DashboardMissing as error:
            self._dashboard_address = str(error)
            return
        if dashboard is None:
            return
        address = await nursery.start(dashboard.run)
        if address is not None:
            self._worker.keep_callbacks_from(urlsplit(address).port or 80)
            self._dashboard_address = address_to_open(address, dashboard.token.text)

    async def _outlive_old_processes(self) -> None:
        """Whoever had this store before had subworkers too, which ended with it."""
        await trio.sleep(ORPHAN_SECONDS)
        self._worker.note_old_processes_ended(list(self._commands()))

    def _drain(self) -> None:
        self._worker.drain()
        self._supervisor.drain()

    def _note_exit(self, worker_id: str, returncode: int) -> None:
        self._worker.note_process_exit(worker_id)

    def _commands(self) -> dict[str, list[str]]:
        worker = self._worker
        commands: dict[str, list[str]] = {}
        for number in range(1, self._processes + 1):
            worker_id = f"{worker.worker_id}-{number}"
            commands[worker_id] = fastworker_command(
                "subworker",
                {
                    "worker-id": worker_id,
                    "control-plane-address": address_to_dial(worker.management_address),
                    "base-address": worker.base_address,
                    "concurrency": self._concurrency,
                    "backend": worker.backend,
                    "drain-timeout": worker.drain_timeout,
                    "serialization-format": worker.serialization_format.value,
                    "log-level": self._log_level,
                    "log-format": self._log_format,
                },
                task_modules=self._modules,
                flags=["--otel" if self._otel else "--no-otel"],
            )
        return commands

    # --- words ---

    def _announce(self) -> None:
        worker = self._worker
        if self._log_format == "json":
            log.info(
                "FastWorker %s, control plane %r is up",
                fastworker.__version__,
                worker.worker_id,
                extra={
                    "epoch": worker.epoch,
                    "pid": os.getpid(),
                    "discovery_address": worker.discovery_address,
                    "base_address": worker.base_address,
                    "management_address": worker.management_address,
                    "store": self._store(),
                    "tasks": self._tasks(),
                    "run_by": self._runners(),
                },
            )
        if self._is_supervised:
            addresses = worker.base_address, worker.discovery_address, worker.management_address
            click.echo(addresses_to_json(*addresses))
        if self._is_supervised or self._log_format == "json":
            return
        lines = [
            f"FastWorker {fastworker.__version__}, control plane {worker.worker_id!r}, "
            f"epoch {worker.epoch}, process {os.getpid()}",
            f"  clients     {worker.discovery_address} (discovery), {worker.base_address}",
            f"  subworkers  {worker.management_address}",
            f"  store       {self._store()}",
            f"  tasks       {self._tasks()}",
            f"  run by      {self._runners()}",
        ]
        if self._dashboard_address:
            lines.append(f"  dashboard   {self._dashboard_address}")
        click.echo("\n".join(lines), file=sys.stderr)

    def _store(self) -> str:
        store, back = self._worker.store, self._worker.replayed
        if not store.is_durable:
            return (
                "memory: when this process ends, tasks that have not ended are lost, and "
                "their clients are told"
            )
        if not back.tasks and not back.outcomes:
            return store.name
        return f"{store.name}; {count(back.tasks)} and {back.outcomes} results came back"

    def _tasks(self) -> str:
        if not self._modules:
            return "none here (no --task-modules); subworkers bring theirs"
        names = registry.names()
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        return f"{', '.join(names[:_SHOWN_NAMES]) or 'none'}{more}"

    def _runners(self) -> str:
        if self._processes:
            names = ", ".join(self._supervisor.processes)
            plural = "es" if self._processes > 1 else ""
            return f"{self._processes} supervised process{plural}: {names}"
        return "this process" if self._worker.executes else "subworkers, when they join"

    def _describe(self) -> str:
        statistics = self._worker.statistics()
        if statistics is None:
            return "nothing is running"
        tasks = statistics.tasks
        text = f"{count(tasks.started + tasks.leased)} running"
        if self._worker.store.is_durable:
            kept = sum(waiting(tasks).values())
            return f"{text}, {kept} waiting are kept" if kept else text
        lost = sum(waiting(tasks).values())
        return f"{text}, {lost} waiting will be lost" if lost else text
