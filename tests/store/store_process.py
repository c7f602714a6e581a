"""A process with a store, that does what it is told, on a disk that may fail.

Run as ``python -m tests.store.store_process PATH``: a command a line, an answer a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fastworker import StoreError, StoreUnavailable
from fastworker._core._stored import Changes, TasksAsked
from fastworker._store._sqlite import SqliteStore
from tests.store.rows import ended, queued, started

ROOT = Path(__file__).parents[2]


class StoreProcess:
    """The test's end of it."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.store_process", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def ask(self, command: str, *arguments: int) -> Any:
        """Return what it answers; a text is an error of the store."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """End it as ``kill -9`` does. Idempotent."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> StoreProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def answer(store: SqliteStore, command: str, arguments: list[int]) -> object:
    """Do it. Tasks are named by their numbers."""
    if command == "open":
        opened = store.open()
        tasks = [task.sequence for some in store.open_tasks() for task in some]
        return {"tasks": tasks, "problems": opened.problems + store.take_problems()}
    if command == "create":
        first, last, size = arguments
        store.write(Changes(created=[queued(n, size=size) for n in range(first, last + 1)]))
    elif command == "start":
        store.write(Changes(updated=[started(queued(n)) for n in arguments]))
    elif command == "end":
        store.write(Changes(updated=[ended(queued(n)) for n in arguments]))
    elif command == "recover":
        store.recover()
    elif command == "trim":
        return store.trim(max_ended=arguments[0], before=0.0)
    elif command == "problems":
        return store.take_problems()
    elif command == "page":
        reader = store.reader()
        try:
            page = reader.page(TasksAsked(limit=1_000))
            return {row.sequence: row.state.name for row in page.rows}
        finally:
            reader.close()
    else:
        raise AssertionError(command)
    return None


def main() -> None:
    store = SqliteStore(sys.argv[1])
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        began = time.monotonic()
        try:
            result = answer(store, command, arguments)
        except (StoreError, StoreUnavailable) as error:
            result = str(error)
        if command == "create" and result is None:
            result = time.monotonic() - began
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
