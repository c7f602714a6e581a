"""What the demo does: three processes, one task for each file, and the figures."""

from __future__ import annotations

import logging
import os
import subprocess
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import trio

from fastworker._child_process import describe_exit, open_child
from fastworker._client import Client
from fastworker._errors import ControlPlaneUnreachable, LinkBroken, SubmitError, UnknownTask
from fastworker._models import TaskResult, TaskStatus
from fastworker._supervisor import GRACE, Supervisor
from fastworker.cli._errors import Exit
from fastworker.cli._supervised import addresses_from_json, fastworker_command, package_folder

TASK: Final = "hash_file"
SUBWORKERS: Final = ("worker-1", "worker-2")

# Enough to keep both subworkers busy all the time, and few enough that a
# folder of a million files does not become a million waiting tasks.
MAX_IN_FLIGHT: Final = 500
# One task may be a disk image; the demo is not the place for a limit.
TASK_SECONDS: Final = 24 * 3600.0
START_SECONDS: Final = 60.0
MAX_SHOWN_FAILURES: Final = 5


@dataclass
class Figures:
    """What came out, so far."""

    folder: str
    tasks: int
    unread_folders: int = 0
    ended: int = 0
    failed: int = 0
    bytes: int = 0
    lines: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    by_worker: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(SUBWORKERS, 0))
    )

    def add(self, path: str, result: TaskResult) -> None:
        """Count one outcome."""
        self.ended += 1
        if result.worker_id is not None:
            self.by_worker[result.worker_id] += 1
        if result.status is TaskStatus.SUCCESS:
            self.bytes += result.result["bytes"]
            self.lines += result.result["lines"]
        else:
            self.fail(path, result.error or result.status.value)

    def refuse(self, path: str, error: SubmitError) -> None:
        """Count a task that was not accepted."""
        self.ended += 1
        self.fail(path, str(error))

    def fail(self, path: str, reason: str) -> None:
        """Count a failure, and keep the first few to be shown."""
        self.failed += 1
        if len(self.failures) < MAX_SHOWN_FAILURES:
            self.failures.append(f"{path}: {reason}")


class View(Protocol):
    """Where the demo shows what happens."""

    def start(self, figures: Figures) -> None:
        """The first task is about to be handed in."""

    def advance(self, figures: Figures) -> None:
        """One more task has ended."""

    def stop(self) -> None:
        """There is nothing more to follow."""

    def show(self, figures: Figures) -> None:
        """Everything has ended."""


async def run_demo(path: Path | None, view: View) -> int:
    """Run it; see the command's help.

    Raises:
      LinkError: a process did not come up, or the control plane ended.

    Cancellation:
      All processes have ended.
    """
    files, figures = await trio.to_thread.run_sync(look_through, path)
    async with open_cluster() as discovery_address:
        client = Client(
            discovery_address,
            "json",
            TASK_SECONDS,
            connect_timeout=START_SECONDS,
            auth=False,  # its control plane has no variable of ours
            tls=False,
        )
        async with client:
            await wait_for_workers(client)
            started_at = trio.current_time()
            view.start(figures)
            try:
                async with trio.open_nursery() as nursery:
                    queue = iter(files)
                    for _ in range(min(MAX_IN_FLIGHT, len(files))):
                        nursery.start_soon(hand_in, queue, client, figures, view)
            finally:
                view.stop()
            figures.seconds = trio.current_time() - started_at
    view.show(figures)
    return Exit.OK


def look_through(path: Path | None) -> tuple[list[str], Figures]:
    """Find the files, and make the figures for them."""
    folder = os.path.abspath(path or sysconfig.get_path("stdlib"))
    skipped = "site-packages" if path is None else None
    unread: list[OSError] = []
    files = list(files_below(folder, skipped, unread.append))
    return files, Figures(folder, len(files), unread_folders=len(unread))


async def hand_in(queue: Iterator[str], client: Client, figures: Figures, view: View) -> None:
    """Hand in one file after the other; as many of these run as tasks are in flight."""
    for path in queue:
        try:
            result = await client.submit_task(TASK, (_encodable(path),))
        except SubmitError as error:
            figures.refuse(path, error)
        else:
            figures.add(path, result)
        view.advance(figures)


async def wait_for_workers(client: Client) -> None:
    """Wait until a subworker takes tasks, by giving it the first: this very file.

    Raises:
      ControlPlaneUnreachable: none came up in time.
    """
    with trio.move_on_after(START_SECONDS):
        while True:
            try:
                await client.submit_task(TASK, (__file__,))
                return
            except UnknownTask:
                # The control plane has waited some seconds for a worker that
                # knows the name before it said so; this waits by asking again.
                continue
    raise ControlPlaneUnreachable(
        client.discovery_address, f"its subworkers did not start within {START_SECONDS:g} s"
    )


@asynccontextmanager
async def open_cluster() -> AsyncIterator[str]:
    """Run a control plane and two subworkers, each in a process of its own.

    Yields:
      The discovery address. All ports are free ones that the system chose.
    """
    any_port = "tcp://127.0.0.1:0"
    level = logging.getLevelName(logging.getLogger().level)
    plane_command = fastworker_command(
        "control-plane",
        {
            "worker-id": "control-plane",
            "base-address": any_port,
            "discovery-address": any_port,
            "subworker-port": 0,
            "result-cache-size": 2 * MAX_IN_FLIGHT,
            "log-level": level,
        },
    )
    # Where the package is, the task module is found in any case; and what the
    # user has set for other control planes is none of this one's business.
    folder = str(package_folder())
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("FASTWORKER_")
    }
    async with open_child(
        plane_command, grace=GRACE, folder=folder, environ=environ, stdout=subprocess.PIPE
    ) as plane:
        _, discovery, management = await _read_addresses(plane)
        commands = {
            worker_id: fastworker_command(
                "subworker",
                {
                    "worker-id": worker_id,
                    "control-plane-address": management,
                    "log-level": level,
                },
                task_modules=["fastworker.demo"],
            )
            for worker_id in SUBWORKERS
        }
        supervisor = Supervisor(commands, lambda *_: None, folder=folder, environ=environ)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            nursery.start_soon(_fail_when_it_ends, plane)
            yield discovery
            nursery.cancel_scope.cancel()


async def _read_addresses(plane: trio.Process) -> tuple[str, str, str]:
    """Wait until the control plane listens."""
    assert plane.stdout is not None
    line = b""
    with trio.move_on_after(START_SECONDS):
        while not line.endswith(b"\n"):
            more = await plane.stdout.receive_some()
            if not more:
                break
            line += more
    if not line.endswith(b"\n"):
        raise LinkBroken(
            "the demo's control plane process did not start; run 'fastworker control-plane' "
            "to see whether one can start here"
        )
    return addresses_from_json(line.decode())


async def _fail_when_it_ends(plane: trio.Process) -> None:
    # The client would look for it for ever: it cannot know that nobody will
    # start it again.
    how = describe_exit(await plane.wait())
    raise LinkBroken(f"the demo's control plane process ended with {how}; run it again")


def files_below(
    folder: str, skipped: str | None, on_error: Callable[[OSError], None]
) -> Iterator[str]:
    """Find all regular files, in a fixed order; links to folders are not followed.

    Args:
      folder: where to begin.
      skipped: the name of folders to leave out, if any.
      on_error: is told of each folder that cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if name != skipped)
        for name in sorted(names):
            path = os.path.join(parent, name)
            # Reading a pipe or a device would wait, maybe for ever.
            if os.path.isfile(path):
                yield path


def _encodable(path: str) -> str | bytes:
    """A path that is no valid Unicode can travel only as the bytes it is."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path
