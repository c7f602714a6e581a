"""A cluster as an operator has it: a control plane with its dashboard, workers, and tasks."""

from __future__ import annotations

import urllib.request
from typing import Any

from fastworker import SyncClient, TaskStatus
from tests.nng.shell import Background, Plane, Shell, wait_until
from tests.ports import free_port

# What somebody may name things who wants the page to run it, or to look broken.
IMAGE = "<img src=x onerror=\"window.pwned='name'\">"
SCRIPT = "</script><script>window.pwned='script'</script>"
RIGHT_TO_LEFT = "\u05d0\u05d1\u05d2.<b>\u05d3"
# Turns around what follows it; nothing may be named so, but it may be an argument.
OVERRIDE = "\u202egnp.exe"
LONG = "n" * 256

TASKS = f"""
import os

import trio

from fastworker import task

IMAGE, SCRIPT, RIGHT_TO_LEFT, LONG = {(IMAGE, SCRIPT, RIGHT_TO_LEFT, LONG)!r}


@task
async def add(a: int, b: int) -> int:
    "Add two numbers.\\n\\nThey may be large."
    return a + b


@task
async def bad(why: str) -> None:
    raise ValueError(why)


@task
async def hold() -> None:
    "Run until it is cancelled."
    await trio.sleep_forever()


@task
def deadly() -> None:
    "Take the worker down."
    os._exit(9)


@task(name=IMAGE)
async def image(text: str) -> str:
    raise ValueError(SCRIPT + text)


@task(name=RIGHT_TO_LEFT)
async def right_to_left(text: str) -> str:
    return text


@task(name=LONG)
async def long(text: str) -> str:
    return text * 20
"""


class Cluster:
    """See the module's first lines. All of it ends with the shell."""

    def __init__(self, shell: Shell, tasks: str = TASKS, *, processes: int = 0) -> None:
        (shell.folder / "page_tasks.py").write_text(tasks)
        self._processes = processes
        self.shell = shell
        shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
        self.port = free_port()
        self.plane = self._start()

    def _start(self, like: Plane | None = None) -> Plane:
        plane = Plane(
            self.shell,
            "--task-modules=page_tasks",
            f"--processes={self._processes}",
            f"--store={self.shell.folder / 'tasks.db'}",
            "--gui-host=127.0.0.1",
            f"--gui-port={self.port}",
            like=like,
        )
        wait_until(self.is_served, "the dashboard answers")
        return plane

    def is_served(self) -> bool:
        """Whether somebody answers at the dashboard's port."""
        try:
            with urllib.request.urlopen(f"{self.root}livez", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def root(self) -> str:
        """Where a visitor without a token comes."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def address(self) -> str:
        """What a terminal shows: the dashboard's address with the token."""
        return f"{self.root}#token={self.token}"

    @property
    def token(self) -> str:
        """What lets an operator in."""
        (file,) = self.shell.folder.rglob("*.token")
        return file.read_text().strip()

    def stop(self) -> None:
        """End the control plane at once, as a crash does."""
        self.plane.command.process.kill()
        self.plane.command.wait()

    def restart(self) -> None:
        """Start it again, where it was and with what it kept."""
        self.plane = self._start(like=self.plane)

    def worker(self, worker_id: str) -> Background:
        """Start a worker of its own, and do not wait for it."""
        return self.shell.start(
            "subworker",
            f"--worker-id={worker_id}",
            f"--control-plane-address={self.plane.management}",
            "--task-modules=page_tasks",
        )

    def client(self) -> SyncClient:
        return SyncClient(self.plane.discovery, timeout=20)

    def submit(
        self, name: str, *arguments: Any, count: int = 1, wait: bool = True
    ) -> list[str]:
        """Submit a task some times; if wanted, wait until all have ended. Their ids."""
        with self.client() as client:
            ids = [client.delay(name, *arguments) for _ in range(count)]
            for task_id in ids if wait else ():
                wait_until(lambda: has_ended(client, task_id), f"{name!r} ends")  # noqa: B023
        return ids

    def status(self, task_id: str) -> TaskStatus | None:
        """What has become of a task; None if it is not known."""
        with self.client() as client:
            result = client.get_task_result(task_id)
        return result.status if result is not None else None


def has_ended(client: SyncClient, task_id: str) -> bool:
    """Whether nothing more becomes of a task."""
    result = client.get_task_result(task_id)
    return result is not None and result.status not in (TaskStatus.PENDING, TaskStatus.STARTED)
